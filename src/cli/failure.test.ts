import assert from "node:assert/strict";
import test from "node:test";
import { OperationError } from "../base/errors.ts";
import { FakeEnvironment } from "./fakes.ts";
import { checkingUsage, reportFailure } from "./failure.ts";

const error = new OperationError({
  code: "apt-missing",
  message: "apt was not found, so the kernel cannot be fetched",
  advice: "give the files with --kernel, --initrd and --bios",
  facts: { looked: "/usr/bin" },
});

test("a person is told what happened, what to do next, and the facts, in whole sentences", () => {
  const environment = new FakeEnvironment();
  assert.equal(reportFailure(error, environment, false), 1);
  assert.equal(
    environment.stderr.text.replace(/\s+/g, " ").trim(),
    "Not carried out. Apt was not found, so the kernel cannot be fetched. " +
      "Give the files with --kernel, --initrd and --bios. apt-missing, looked: /usr/bin",
  );
  assert.equal(environment.stdout.text, "");
});

test("a program is told the same as JSON on stdout, with the same exit code", () => {
  const environment = new FakeEnvironment();
  assert.equal(reportFailure(error, environment, true), 1);
  const { code, message, advice, facts } = error;
  assert.deepEqual(JSON.parse(environment.stdout.text), { error: { code, message, advice, facts } });
  assert.equal(environment.stderr.text, "");
});

test("what a check of the command line throws is wrong usage; other errors stay what they are", () => {
  const environment = new FakeEnvironment();
  const fail = (thrown: Error) => (): never => {
    throw thrown;
  };
  assert.throws(
    () => checkingUsage(fail(error)),
    (thrown) => reportFailure(thrown, environment, false) === 64,
  );
  assert.throws(() => checkingUsage(fail(new TypeError("x"))), TypeError);
});

test("something nobody meant to throw is called a defect, with a place to look", () => {
  const environment = new FakeEnvironment();
  assert.equal(reportFailure(new RangeError("off by one"), environment, false), 1);
  assert.match(
    environment.stderr.text.replace(/\s+/g, " "),
    /defect of Underway: RangeError: off by one\. .*internal-error, stack: at /,
  );
});
