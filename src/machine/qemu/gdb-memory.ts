// Guest physical memory of a stopped VM, written through QEMU's gdb server: the only way in that QMP can open at run time.
import { connect, type Socket } from "node:net";
import { assert } from "../../base/assert.ts";
import { OperationError } from "../../base/errors.ts";
import { readPackets, writePacket } from "./gdb-packets.ts";

const ANSWER_TIMEOUT_MS = 5000;
/** QEMU's packets end at 4 KiB, in hexadecimal and with a header (gdbstub/internals.h, MAX_PACKET_LENGTH). */
const ACCESS_BYTES_MAX = 1024;
/** An answer that grows beyond what a read may give. */
const HELD_BYTES_MAX = 16_384;

interface Question {
  readonly resolve: (answer: string) => void;
  readonly reject: (error: OperationError) => void;
}

/**
 * Reads and writes as a bus master would, devices' registers included: an access of 4 bytes reaches the device as one,
 * and longer ones as 4 bytes each, upwards. A debugger that connects, or sends anything, stops the VM (gdbstub/system.c,
 * gdb_chr_event; gdbstub/gdbstub.c, gdb_read_byte), so this is for a VM that is stopped and stays so; one that says
 * goodbye lets it run (`D`) or kills it (`k`), so this one just hangs up. Calls given without awaiting the ones before go
 * out together and are done in order. All reject with OperationError `gdb-failed`.
 */
export class GdbMemory {
  readonly #socket: Socket;
  readonly #socketPath: string;
  readonly #questions: Question[] = [];
  readonly #timer: NodeJS.Timeout;
  #held = "";
  #end: OperationError | undefined;

  /** Connects to a gdb server that no debugger uses, and makes its addresses physical ones. */
  static async connect(socketPath: string): Promise<GdbMemory> {
    const socket = connect(socketPath);
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", (cause) => reject(failed(socketPath, cause.message, cause)));
    });
    const memory = new GdbMemory(socket, socketPath);
    await memory.#expectOk("Qqemu.PhyMemMode:1");
    return memory;
  }

  private constructor(socket: Socket, socketPath: string) {
    this.#socket = socket;
    this.#socketPath = socketPath;
    socket.setEncoding("latin1");
    socket.on("data", (text: string) => this.#take(text));
    socket.on("error", (cause) => this.#close(failed(socketPath, cause.message, cause)));
    socket.on("close", () => this.#close(failed(socketPath, "QEMU hung up")));
    this.#timer = setTimeout(() => {
      if (this.#questions.length > 0) this.#close(failed(socketPath, "it does not answer"));
    }, ANSWER_TIMEOUT_MS);
    this.#timer.unref();
  }

  async read(address: number, length: number): Promise<Uint8Array> {
    assert(length > 0 && length <= ACCESS_BYTES_MAX, "too much for one packet");
    const answer = await this.#ask(`m${address.toString(16)},${length.toString(16)}`);
    if (!/^(?:[0-9a-f]{2})+$/.test(answer) || answer.length !== 2 * length) throw this.#unexpected(answer);
    return Uint8Array.fromHex(answer);
  }

  /** What nobody answers to is dropped without a word, as on any bus: read back what matters. */
  async write(address: number, bytes: Uint8Array): Promise<void> {
    assert(bytes.length > 0 && bytes.length <= ACCESS_BYTES_MAX, "too much for one packet");
    await this.#expectOk(`M${address.toString(16)},${bytes.length.toString(16)}:${bytes.toHex()}`);
  }

  /** Makes addresses virtual again, as a person's debugger expects them, and hangs up. While the VM is stopped. */
  async leave(): Promise<void> {
    await this.#expectOk("Qqemu.PhyMemMode:0");
    this.hangUp();
  }

  /** Says nothing: with the VM running, a single byte would stop it. */
  hangUp(): void {
    this.#close(failed(this.#socketPath, "it is closed"));
  }

  async #expectOk(packet: string): Promise<void> {
    const answer = await this.#ask(packet);
    if (answer !== "OK") throw this.#unexpected(answer);
  }

  #ask(packet: string): Promise<string> {
    if (this.#end !== undefined) return Promise.reject(this.#end);
    return new Promise((resolve, reject) => {
      this.#questions.push({ resolve, reject });
      this.#timer.refresh().ref();
      if (this.#socket.writableCorked === 0) {
        this.#socket.cork();
        process.nextTick(() => this.#socket.uncork());
      }
      this.#socket.write(writePacket(packet), "latin1");
    });
  }

  #take(text: string): void {
    const { packets, rest } = readPackets(this.#held + text);
    this.#held = rest;
    for (const packet of packets) {
      if (packet === undefined) return this.#close(failed(this.#socketPath, "a sum is wrong"));
      const question = this.#questions.shift();
      if (question === undefined) return this.#close(failed(this.#socketPath, "it answers what nobody asked"));
      question.resolve(packet);
    }
    if (this.#questions.length === 0) this.#timer.unref();
    else this.#timer.refresh();
    if (rest.length > HELD_BYTES_MAX) this.#close(failed(this.#socketPath, "its answer does not end"));
  }

  #unexpected(answer: string): OperationError<"gdb-failed"> {
    return failed(this.#socketPath, `it answered "${answer.slice(0, 100)}"`);
  }

  #close(reason: OperationError): void {
    if (this.#end !== undefined) return;
    this.#end = reason;
    clearTimeout(this.#timer);
    this.#socket.destroy();
    for (const { reject } of this.#questions.splice(0)) reject(reason);
  }
}

function failed(socketPath: string, why: string, cause?: unknown): OperationError<"gdb-failed"> {
  return new OperationError({
    code: "gdb-failed",
    message: `QEMU's gdb server at ${socketPath} cannot be used: ${why}`,
    advice: "See that no debugger is attached to that QEMU, and that its sockets can be reached by this user.",
    facts: { socketPath, why },
    cause,
  });
}
