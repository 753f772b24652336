// The human monitor's commands that QMP has no counterpart of: port I/O, guest physical memory, and the gdb server.
import * as v from "valibot";
import { assert } from "../../base/assert.ts";
import { OperationError } from "../../base/errors.ts";
import type { QmpClient } from "./qmp.ts";

export type PortBytes = 1 | 2 | 4;

/** The format letter of a size, as in gdb's `x`. */
const sizeLetters: Readonly<Record<PortBytes, string>> = { 1: "b", 2: "h", 4: "w" };
/** What QEMU calls a port of that size in its answer, as in AT&T's `inb`, `inw` and `inl`. */
const portLetters: Readonly<Record<PortBytes, string>> = { 1: "b", 2: "w", 4: "l" };
const WORDS_MAX = 1024;

/**
 * Each call is one command of the human monitor, so calls given without awaiting the ones before run back to back in
 * their order. All reject as QmpClient's `execute`, and with OperationError `qemu-monitor-refused`, QEMU's own words in it.
 */
export class HumanMonitor {
  readonly #qmp: QmpClient;

  constructor(qmp: QmpClient) {
    this.#qmp = qmp;
  }

  /** Reads an I/O port as a vCPU would, with all that the device makes of it. */
  async readPort(port: number, bytes: PortBytes): Promise<number> {
    const command = `i /${sizeLetters[bytes]} ${hexadecimal(port)}`;
    const pattern = new RegExp(
      `^port${portLetters[bytes]}\\[${hexadecimal(port, 4)}\\] = 0x([0-9a-f]{${2 * bytes}})\\r\\n$`,
    );
    const answer = await this.#command(command);
    const digits = pattern.exec(answer)?.[1];
    if (digits === undefined) throw refused(command, answer);
    return Number.parseInt(digits, 16);
  }

  async writePort(port: number, bytes: PortBytes, value: number): Promise<void> {
    assert(value >= 0 && value < 2 ** (8 * bytes), "the value does not fit the port");
    await this.#silent(`o /${sizeLetters[bytes]} ${hexadecimal(port)} ${hexadecimal(value)}`);
  }

  /** Reads little-endian words of guest physical memory, be it RAM or a device's registers, as the first vCPU would. */
  async readPhysicalWords(address: number, count: number): Promise<Uint32Array> {
    assert(count > 0 && count <= WORDS_MAX && Number.isSafeInteger(address), "too many words, or no address");
    const command = `xp /${count}wx ${hexadecimal(address)}`;
    const answer = await this.#command(command);
    const words = parseDump(answer, address, count);
    if (words === undefined) throw refused(command, answer);
    return words;
  }

  /** Makes QEMU listen for a debugger at a Unix socket, in place of the one it may have listened for until now. */
  async startGdbServer(socketPath: string): Promise<void> {
    assert(/^[^\s,"\\]+$/.test(socketPath), "the monitor's line cannot carry this path");
    const command = `gdbserver unix:${socketPath},server=on,wait=off`;
    const answer = await this.#command(command);
    if (!answer.startsWith("Waiting for gdb connection")) throw refused(command, answer);
  }

  /** Drops the debugger's connection, if any, and its socket. */
  async stopGdbServer(): Promise<void> {
    const answer = await this.#command("gdbserver none");
    if (!answer.startsWith("Disabled gdbserver")) throw refused("gdbserver none", answer);
  }

  async #silent(command: string): Promise<void> {
    const answer = await this.#command(command);
    if (answer !== "") throw refused(command, answer);
  }

  #command(line: string): Promise<string> {
    return this.#qmp.execute("human-monitor-command", v.string(), { arguments: { "command-line": line } });
  }
}

/** Reads what `xp /Nwx` prints: lines of an address and up to four words. Undefined when it is anything else. */
export function parseDump(text: string, address: number, count: number): Uint32Array | undefined {
  const words = new Uint32Array(count);
  const lines = text.split("\r\n");
  if (lines.pop() !== "" || lines.length !== Math.ceil(count / 4)) return undefined;
  for (const [row, line] of lines.entries()) {
    const found = /^([0-9a-f]{8,16}):((?: 0x[0-9a-f]{8}){1,4})$/.exec(line);
    const values = found?.[2]?.trim().split(" ") ?? [];
    if (Number.parseInt(found?.[1] ?? "", 16) !== address + 16 * row) return undefined;
    if (values.length !== Math.min(4, count - 4 * row)) return undefined;
    for (const [i, value] of values.entries()) words[4 * row + i] = Number(value);
  }
  return words;
}

function hexadecimal(value: number, digits = 1): string {
  return `0x${value.toString(16).padStart(digits, "0")}`;
}

function refused(command: string, answer: string): OperationError<"qemu-monitor-refused"> {
  const said = answer.trim().slice(0, 500);
  return new OperationError({
    code: "qemu-monitor-refused",
    message: `QEMU's monitor did not do "${command}": ${said === "" ? "it said nothing" : said}`,
    advice: "See what QEMU says; it must be one of 10.1 or newer, and free to make sockets where it is told to.",
    facts: { command, said },
  });
}
