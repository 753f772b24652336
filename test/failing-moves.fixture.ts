// A guest that is moved again and again, and moves that are made to fail: what both machines with an operating system share.
import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { defaultCacheDirectory } from "../src/host/assets/cache.ts";
import { Child } from "../src/host/child-rpc.ts";
import { hostClock } from "../src/host/clock.ts";
import { cablePath } from "../src/host/fabric-server.ts";
import { startFabric, type Fabric } from "../src/host/fabric.ts";
import { readCounts, type NetworkCounts } from "../src/host/guest-counts.ts";
import type { GuestKind } from "../src/host/guests.ts";
import type { TcpAddress } from "../src/host/tcp-transport.ts";
import type { MoveResult, VmHostEvent, VmHostMethods, VmSettings } from "../src/host/vm-host-messages.ts";
import type { MigrationEvent } from "../src/migration/events.ts";
import { formatIpv4 } from "../src/network/ipv4.ts";
import { formatMac } from "../src/network/mac.ts";
import type { PingReport } from "../src/network/ping-log.ts";
import { networkPlan } from "../src/network/plan.ts";

/** The guest is pinged this long after a move, and answers are waited for this long. */
const PINGED_MS = 1000;
const PING_ANSWER_MS = 1000;

export type VmHost = Child<VmHostMethods, VmHostEvent>;

const move = { strategy: "rings-first", downtimeLimitMs: 1000, roundsMax: 10, ifNotConverging: "switch-over" } as const;

/** A move that has ended, and pings that have run since before it. */
export interface Moved {
  readonly result: MoveResult;
  readonly pinger: string;
  readonly countsBefore: NetworkCounts;
  readonly notTakenBefore: number;
  readonly endedAtMs: number;
}

/** What a move can be made to fail by. */
export interface Saboteur {
  readonly event: MigrationEvent;
  readonly destination: VmHost;
  readonly link: Link;
  readonly killSourceQemu: () => void;
  readonly killDestinationQemu: () => void;
}

/** The connection between the hosts, which can be cut. */
export class Link {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(to: TcpAddress) {
    this.#server = createServer((near) => {
      const far = connect(to);
      for (const socket of [near, far]) {
        this.#sockets.add(socket);
        socket.on("error", () => {}).on("close", () => this.cut());
      }
      near.pipe(far).pipe(near);
    });
  }

  static async to(address: TcpAddress): Promise<{ link: Link; address: TcpAddress }> {
    const link = new Link(address);
    await new Promise<void>((resolve) => {
      link.#server.listen(0, "127.0.0.1", resolve);
    });
    const own = link.#server.address();
    assert.ok(own !== null && typeof own === "object");
    return { link, address: { ...address, host: "127.0.0.1", port: own.port } };
  }

  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#sockets.clear();
  }

  close(): void {
    this.cut();
    this.#server.close();
  }
}

/** A running guest, its source, and a destination for each move. */
export class FailingMoves {
  readonly directory: string;
  readonly fabric: Fabric;
  readonly source: VmHost;
  readonly #settings: Omit<VmSettings, "cable">;
  #onSourceEvent: (event: MigrationEvent) => void = () => {};
  #good: VmHost | undefined;

  /** `destinations` are the names of all that a move may go to; the guest stays with `good`. */
  static async begin(parts: {
    readonly guest: GuestKind;
    readonly memoryBytes: number;
    readonly destinations: readonly string[];
  }): Promise<FailingMoves> {
    const directory = await mkdtemp(path.join(tmpdir(), "underway-"));
    const fabric = await startFabric({ directory, cables: ["source", ...parts.destinations, "good"], seed: 1 });
    const moves = new FailingMoves(directory, fabric, {
      memoryBytes: parts.memoryBytes,
      mac: formatMac(networkPlan.guestMac),
      seed: 1,
      guest: parts.guest,
      cacheDirectory: defaultCacheDirectory(),
      directory,
    });
    await moves.source.call("startGuest", { ...moves.#settings, cable: cablePath(directory, "source") });
    return moves;
  }

  private constructor(directory: string, fabric: Fabric, settings: Omit<VmSettings, "cable">) {
    this.directory = directory;
    this.fabric = fabric;
    this.#settings = settings;
    this.source = startHost("source", (event) => this.#onSourceEvent(event));
  }

  async end(): Promise<void> {
    await this.#good?.close();
    await this.source.close();
    await this.fabric.close();
    await rm(this.directory, { recursive: true, force: true });
  }

  /** The destination that the guest was moved to for good. */
  get good(): VmHost {
    assert.ok(this.#good !== undefined, "the guest was not moved");
    return this.#good;
  }

  /** Moves to a destination of its own; `during` is called with each event of the source. */
  async moveTo(
    name: string,
    during: (saboteur: Saboteur) => void = () => {},
    change: Partial<VmSettings> = {},
  ): Promise<Moved> {
    const countsBefore = await countsOf(this.source);
    const notTakenBefore = await this.#framesNotTaken();
    const destination = startHost(name, () => {});
    let link: Link | undefined;
    try {
      const cable = cablePath(this.directory, name);
      // Sockets of its own: several destinations share this run's folder.
      const directory = path.join(this.directory, name);
      const listening = await destination.call("listen", { ...this.#settings, directory, cable, ...change });
      const linked = await Link.to(listening);
      ({ link } = linked);
      await this.fabric.call("startPinger", { name, intervalMs: 5, payloadBytes: 1000, seed: 1 });
      const killSourceQemu = killerOf(await qemuOf(this.source));
      const killDestinationQemu = killerOf(await qemuOf(destination));
      this.#onSourceEvent = (event) =>
        during({ event, destination, link: linked.link, killSourceQemu, killDestinationQemu });
      const result = await this.source.call("moveOut", { ...move, to: linked.address });
      return { result, pinger: name, countsBefore, notTakenBefore, endedAtMs: hostClock.nowMs() };
    } finally {
      this.#onSourceEvent = () => {};
      if (name === "good") this.#good = destination;
      else await destination.close();
      link?.close();
    }
  }

  /** The source has the guest, and no ping was lost on it: not during the move that failed, and not after it. */
  async assertSourceWorks(moved: Moved, code: RegExp): Promise<void> {
    const { result, notTakenBefore } = moved;
    assert.equal(result.kind, "resumed", JSON.stringify(result));
    assert.match(result.kind === "resumed" ? result.failure.code : "", code);
    const { whole, afterMove, discarded } = await this.#pingsOf(moved, this.source);
    const notTaken = (await this.#framesNotTaken()) - notTakenBefore;
    const about = JSON.stringify({ whole, afterMove, discarded, notTaken });
    assert.ok(afterMove.answered > 50, about);
    const lost = whole.sent - whole.answered;
    assert.ok(lost >= discarded && lost <= discarded + notTaken, about);
    await assertPings(this.source);
  }

  /** The guest is on its good destination, and the card works there. */
  async assertMoved(moved: Moved): Promise<void> {
    assert.equal(moved.result.kind, "completed", JSON.stringify(moved.result));
    const { afterMove, discarded } = await this.#pingsOf(moved, this.good);
    const about = JSON.stringify({ afterMove, discarded });
    assert.ok(afterMove.answered > 50, about);
    assert.ok(afterMove.answered + discarded >= afterMove.sent, about);
    await assertPings(this.good);
  }

  /** Frames for the source's guest that it took too slowly: dropped by the card, or by the fabric before its host's cable. */
  async #framesNotTaken(): Promise<number> {
    const { packetBufferFull = 0, withoutDescriptors = 0 } = await this.source.call("framesDropped", null);
    const { switch: counters } = await this.fabric.call("counters", null);
    const port = counters.ports.find(({ name }) => name === "source");
    return packetBufferFull + withoutDescriptors + (port?.out.dropped.backlog ?? 0);
  }

  /**
   * Ends the pings a while after the move, and asks what became of them. Where the host gets too little processor, some are
   * not answered, and each of these is accounted for. The guest's own kernel throws answers away, and counts that, when
   * more than sixty pings come at once, after a third of a second. And after some seconds the ring, the packet buffer or
   * the cable's backlog is full; the card and the fabric count what they drop then.
   */
  async #pingsOf(
    { pinger: name, countsBefore, endedAtMs: sentFromMs }: Moved,
    host: VmHost,
  ): Promise<{ whole: PingReport; afterMove: PingReport; discarded: number }> {
    await sleep(PINGED_MS);
    await this.fabric.call("stopPinger", { name });
    // Answers of a slow guest come late: when its shell has run twice and none came between, none is to come.
    for (let answered = -1; ;) {
      const discarded = (await countsOf(host)).answersDiscarded - countsBefore.answersDiscarded;
      const whole = await this.fabric.call("pingReport", { name });
      const afterMove = await this.fabric.call("pingReport", { name, sentFromMs });
      if (whole.answered === answered) return { whole, afterMove, discarded };
      answered = whole.answered;
      await sleep(PING_ANSWER_MS);
    }
  }
}

function startHost(name: string, onEvent: (event: MigrationEvent) => void): VmHost {
  return new Child({
    name,
    module: new URL("../src/host/vm-host-process.ts", import.meta.url),
    onEvent: (event) => (event.kind === "migration" ? onEvent(event.event) : undefined),
  });
}

const countsOf = (host: VmHost): Promise<NetworkCounts> =>
  readCounts((parameters) => host.call("runCommand", parameters));

/** The guest pings. Nobody else does meanwhile: busybox ping reads a raw socket that gets every ping there is, and may overflow. */
async function assertPings(host: VmHost): Promise<void> {
  const command = `ping -c 5 -i 0.2 -W 2 ${formatIpv4(networkPlan.peerIp)}`;
  const { output, exitStatus } = await host.call("runCommand", { command, timeoutMs: 20_000 });
  assert.equal(exitStatus, 0, output);
}

function killerOf(pid: number | undefined): () => void {
  return () => {
    if (pid !== undefined) process.kill(pid, "SIGKILL");
  };
}

/** The process of the QEMU that a host has started, its child; undefined if it has none. */
async function qemuOf(host: VmHost): Promise<number | undefined> {
  for (const pid of await readdir("/proc")) {
    const status = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "");
    const command = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
    const isChild = new RegExp(`^PPid:\\t${host.pid}$`, "m").test(status);
    if (isChild && command.includes("memory-backend-memfd")) return Number(pid);
  }
  return undefined;
}
