/**
 * The command line: flags in, text out. The only place, with cli/, that prints or exits.
 * @module
 */
import { Command, CommanderError } from "commander";
import { RUN } from "./cli/commands.ts";
import { exitCodeOf } from "./cli/exit_codes.ts";
import { askForVulkan, interruption, outliveTerminal, throttleDawnPolling } from "./cli/host.ts";
import { addFlags, HELP, normalArguments, settingsOf, type Values } from "./cli/options.ts";
import { Output } from "./cli/output.ts";
import { outsideText } from "./cli/permissions.ts";
import project from "./deno.json" with { type: "json" };
import { COMMANDS } from "./pipeline/settings/commands.ts";

function program(start: (output: Output) => void, done: (code: number) => void): Command {
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
        const output = new Output(values.json === true);
        start(output);
        done(await RUN[name](settingsOf(values, flags), output));
      });
  }
  return whorl;
}

async function main(args: string[]): Promise<number> {
  let code = 0;
  let output = new Output(false);
  outliveTerminal();
  await askForVulkan();
  try {
    await program((started) => output = started, (result) => code = result).parseAsync(
      normalArguments(args),
      { from: "user" },
    );
    return code;
  } catch (error) {
    if (interruption.signal.aborted) {
      output.object({ type: "interrupted", code: interruption.code, left: interruption.left });
      console.error(`interrupted: ${interruption.left}`);
      return interruption.code;
    }
    code = exitCodeOf(error);
    // Commander has said it.
    if (error instanceof CommanderError) return code;
    const { name, message } = error instanceof Error ? error : { name: "Error", message: String(error) };
    output.object({ type: "error", code, name, message: outsideText(message) });
    console.error(`error: ${outsideText(message)}`);
    if (!(error instanceof Error) || error.constructor === TypeError) console.error(error);
    return code;
  }
}

Deno.exit(await main(Deno.args));
