/**
 * The command line: flags in, text out. The only place, with cli/, that prints or exits.
 * @module
 */
import { Command, CommanderError } from "commander";
import { RUN } from "./cli/commands.ts";
import { askForVulkan, interruption, outliveTerminal, throttleDawnPolling } from "./cli/host.ts";
import { addFlags, HELP, normalArguments, settingsOf, type Values } from "./cli/options.ts";
import { outsideText } from "./cli/permissions.ts";
import project from "./deno.json" with { type: "json" };
import { COMMANDS } from "./pipeline/settings/commands.ts";

function program(done: (code: number) => void): Command {
  const whorl = new Command("whorl").description("Fingerprints language models on any GPU.").exitOverride()
    .configureHelp(HELP)
    .version(project.version, "--version", "print the version")
    .helpOption("-h, --help", "print help, of a command after its name")
    .configureOutput({
      writeOut: (text) => console.log(text.trimEnd()),
      writeErr: (text) => console.error(text.trimEnd()),
    });
  for (const { name, summary, flags, examples } of COMMANDS) {
    const command = whorl.command(name).description(summary).exitOverride().copyInheritedSettings(whorl);
    addFlags(command, flags)
      .addHelpText("after", examples.map(({ what, command }) => `\n# ${what}\n${command}`).join("\n"))
      .action(async (values: Values) => {
        if (values.webgpu === "dawn") throttleDawnPolling();
        done(await RUN[name](settingsOf(values, flags)));
      });
  }
  return whorl;
}

async function main(args: string[]): Promise<number> {
  let code = 0;
  outliveTerminal();
  await askForVulkan();
  try {
    await program((result) => code = result).parseAsync(normalArguments(args), { from: "user" });
    return code;
  } catch (error) {
    if (interruption.signal.aborted) {
      console.error(`interrupted: ${interruption.left}`);
      return interruption.code;
    }
    if (error instanceof CommanderError) {
      // Commander has said it.
      return error.exitCode;
    }
    console.error(`error: ${outsideText(error instanceof Error ? error.message : String(error))}`);
    if (!(error instanceof Error) || error.constructor === TypeError) console.error(error);
    return 1;
  }
}

Deno.exit(await main(Deno.args));
