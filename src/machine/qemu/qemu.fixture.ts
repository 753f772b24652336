// A QEMU for tests, of which there is only what a migration needs: QMP commands, and both ends of its stream.
import { connect, createServer, type Server, type Socket } from "node:net";
import { duplexPair, type Duplex } from "node:stream";
import { guestRam, smallStream, StreamWriter, type StreamDescription } from "./migration-stream.fixture.ts";
import { MigrationStream } from "./migration-stream.ts";
import { QmpClient } from "./qmp.ts";
import { ReturnPathReader, returnPathShut } from "./return-path.ts";
import { SectionType } from "./stream-words.ts";

interface Command {
  readonly execute: string;
  readonly arguments?: Record<string, unknown>;
  readonly id: number;
}

const GREETING = '{"QMP":{"version":{"qemu":{"major":11,"minor":1,"micro":2},"package":""},"capabilities":[]}}\n';

/** Where a unix-socket URI leads. */
function pathOf(uri: unknown): string {
  return String(uri).replace(/^unix:/, "");
}

export class FakeQemu {
  readonly commands: string[] = [];
  readonly capabilities = new Map<string, boolean>([
    ["xbzrle", true],
    ["events", true],
    ["return-path", false],
    ["switchover-ack", false],
    ["auto-converge", false],
  ]);
  readonly parameters: Record<string, unknown> = {
    "max-bandwidth": 134_217_728,
    "downtime-limit": 300,
    "tls-creds": "tls0",
    mode: "cpr-reboot",
    "x-other": 5,
  };
  /** Commands that are refused, with QEMU's words. */
  readonly refuses = new Map<string, string>();
  /** Commands that are carried out and not answered. */
  readonly silentAt = new Set<string>();
  /** Told of each command before it is carried out or refused. */
  onCommand: (command: string) => void = () => {};
  status = "none";
  error: string | undefined;
  isRunning = true;
  description: StreamDescription = smallStream;
  /** Whether the whole of RAM is sent as soon as there is somebody to take it. */
  sendsFirstPass = true;
  /** Whether it goes to the end of its stream once the guest is stopped. */
  ends = true;
  /** Whether `stop` is answered only when the end of the stream was taken, as by a QEMU that sends it with its big lock held. */
  answersStopAfterEnd = false;
  /** Bytes of the end that are sent before the stream is cut. */
  endCutAt: number | undefined;
  /** What a destination says against the state that comes. */
  refusesState: string | undefined;
  /** What the destination took in. */
  stateTaken: Uint8Array | undefined;
  readonly #qmp: Duplex;
  #writer = new StreamWriter();
  #stream: Socket | undefined;
  #server: Server | undefined;
  #text = "";

  private constructor(qmp: Duplex) {
    this.#qmp = qmp;
    qmp.write(GREETING);
    qmp.setEncoding("utf8").on("data", (text: string) => {
      const lines = (this.#text + text).split("\n");
      this.#text = lines.pop() ?? "";
      for (const line of lines) this.#take(JSON.parse(line) as Command);
    });
  }

  static async make(commandTimeoutMs = 10_000): Promise<{ qemu: FakeQemu; qmp: QmpClient }> {
    const [near, far] = duplexPair();
    const qemu = new FakeQemu(far);
    return { qemu, qmp: await QmpClient.over(near, "fake", { commandTimeoutMs }) };
  }

  /** It is no more: QMP and streams end. */
  die(): void {
    this.#qmp.end();
    this.cutStream();
    this.#server?.close();
  }

  /** Its migration fails by itself. */
  fail(error: string): void {
    this.status = "failed";
    this.error = error;
    this.cutStream();
  }

  cutStream(): void {
    this.#stream?.destroy();
  }

  get hasStream(): boolean {
    return this.#stream !== undefined && !this.#stream.destroyed;
  }

  /** The CPU wrote these pages. */
  sendPages(pages: readonly number[]): void {
    const records = pages.map((page) => ({ block: guestRam.name, page, fill: 1 }));
    this.#stream?.write(this.#writer.ram(SectionType.part, records).taken());
  }

  sendEnd(): void {
    const bytes = this.#writer.end(this.description).taken();
    this.#stream?.write(bytes.subarray(0, this.endCutAt ?? bytes.length));
    if (this.endCutAt !== undefined) this.#stream?.end();
    this.status = "device";
  }

  #take({ execute, arguments: given = {}, id }: Command): void {
    if (execute !== "qmp_capabilities" && !execute.startsWith("query-")) this.commands.push(execute);
    this.onCommand(execute);
    const refusal = this.refuses.get(execute);
    if (refusal !== undefined) {
      this.#qmp.write(`${JSON.stringify({ id, error: { class: "GenericError", desc: refusal } })}\n`);
      return;
    }
    const answer = this.#carryOut(execute, given);
    if (execute === "stop" && this.answersStopAfterEnd) {
      this.#stream?.write("", () => void this.#qmp.write(`${JSON.stringify({ id, return: {} })}\n`));
      return;
    }
    if (!this.silentAt.has(execute) && this.#qmp.writable) {
      this.#qmp.write(`${JSON.stringify({ id, return: answer ?? {} })}\n`);
    }
  }

  #carryOut(command: string, given: Record<string, unknown>): unknown {
    switch (command) {
      case "query-migrate":
        return { status: this.status, ...(this.error === undefined ? {} : { "error-desc": this.error }) };
      case "query-migrate-capabilities":
        return [...this.capabilities].map(([capability, state]) => ({ capability, state }));
      case "query-migrate-parameters":
        return this.parameters;
      case "migrate-set-capabilities":
        for (const { capability, state } of given["capabilities"] as { capability: string; state: boolean }[]) {
          this.capabilities.set(capability, state);
        }
        return undefined;
      case "migrate-set-parameters":
        return void Object.assign(this.parameters, given);
      case "migrate":
        return this.#migrate(pathOf(given["uri"]));
      case "migrate_cancel":
        this.status = "cancelled";
        return this.cutStream();
      case "migrate-incoming":
        return this.#listen(pathOf(given["uri"]));
      case "stop":
        this.isRunning = false;
        if (this.hasStream && this.ends) this.sendEnd();
        return undefined;
      case "cont":
        this.isRunning = true;
    }
    return undefined;
  }

  #migrate(socketPath: string): void {
    this.status = "active";
    this.error = undefined;
    const stream = connect(socketPath);
    this.#writer = new StreamWriter();
    this.#stream = stream;
    const reader = new ReturnPathReader();
    stream.on("data", (bytes: Uint8Array) => {
      reader.push(bytes);
      if (reader.shut === 0) this.status = "completed";
    });
    stream.on("error", () => {});
    stream.on("close", () => {
      if (this.status === "active" || this.status === "device") this.status = "failed";
    });
    if (!this.sendsFirstPass) return;
    stream.write(this.#writer.head(this.description).taken());
    this.sendPages(Array.from({ length: guestRam.usedBytes / 4096 }, (_, page) => page));
  }

  #listen(socketPath: string): void {
    this.status = "setup";
    const isGuestRam = ({ name }: { name: string }): boolean => name === guestRam.name;
    this.#server = createServer((socket) => {
      const stream = new MigrationStream({ isGuestRam, onDirtyPage: () => {} });
      this.#stream = socket;
      this.status = "active";
      socket.on("error", () => {});
      socket.on("data", (bytes: Uint8Array) => {
        stream.push(bytes);
        if (!stream.isComplete) return;
        this.stateTaken = stream.machineState();
        this.status = this.refusesState === undefined ? "completed" : "failed";
        this.error = this.refusesState;
        socket.end(returnPathShut(this.refusesState === undefined ? 0 : 1));
      });
      this.#server?.close();
    }).listen(socketPath);
  }
}
