import assert from "node:assert/strict";
import { CommanderError } from "commander";
import { EXIT_CODES, exitCodeOf } from "../../cli/exit_codes.ts";
import * as whorl from "../../mod.ts";

Deno.test("exit codes: each is one meaning, and every error class of the library has one of its own", () => {
  const codes = EXIT_CODES.map(({ code }) => code);
  assert.equal(new Set(codes).size, codes.length);
  assert.ok(codes.every((code) => code < 128), "those from 128 on are signals");
  const classes = Object.entries(whorl).filter(([name]) => name.endsWith("Error"));
  assert.ok(classes.length > 20);
  // What a bug makes: nobody's input.
  const bugs = ["GpuValidationError"];
  for (const [name, type] of classes) {
    const error = Object.create((type as { prototype: object }).prototype);
    assert.equal(exitCodeOf(error) === 70, bugs.includes(name), `${name}: ${exitCodeOf(error)}`);
  }
});

Deno.test("exit codes: a subclass has its own where that says more, help is no error", () => {
  const of = (type: { prototype: object }) => exitCodeOf(Object.create(type.prototype));
  assert.equal(of(whorl.ResultsError), 4);
  assert.equal(of(whorl.ResultsLockedError), 7);
  assert.equal(of(whorl.FingerprintsExistError), 1);
  assert.equal(exitCodeOf(new CommanderError(0, "commander.helpDisplayed", "")), 0);
  assert.equal(exitCodeOf(new CommanderError(1, "commander.unknownOption", "")), 2);
  assert.equal(exitCodeOf(new TypeError("a bug")), 70);
  assert.equal(exitCodeOf("thrown"), 70);
});
