// The fabric itself: a switch with hosts' cables, the built-in peer and passt plugged in, and a timer for what is due.
import path from "node:path";
import type { Clock } from "../base/clock.ts";
import { OperationError } from "../base/errors.ts";
import { SeededRandom } from "../base/random.ts";
import { Peer } from "../network/peer.ts";
import { networkPlan } from "../network/plan.ts";
import { EthernetSwitch } from "../network/switch.ts";
import type { LinkSettings } from "../network/wire.ts";
import { ackThinning } from "../network/ack-thinning.ts";
import { gatewayFilter, withoutPadding } from "../network/uplink-filter.ts";
import { WindowProbes } from "../network/window-probes.ts";
import { CablePort, type CablePortOptions } from "./cable-port.ts";
import { CaptureFile, type CaptureSummary } from "./capture-file.ts";
import { PEER_PORT, UPLINK_PORT, type FabricCounters, type FabricEvent } from "./fabric-messages.ts";
import { startPasst } from "./passt.ts";

/** Where a host plugs in the cable of that name. */
export const cablePath = (directory: string, cable: string): string => path.join(directory, `${cable}.sock`);

export interface FabricServerOptions {
  readonly clock: Clock;
  /** Everything that is random about the fabric, that is the loss on its links. */
  readonly seed: number;
  readonly onEvent: (event: FabricEvent) => void;
}

/** A timer's longest delay; what is due later is looked at again then. */
const TIMER_MS_MAX = 60_000;

/** Memory is bounded: a port whose reader is slow drops frames, which its counters show, and slows nobody else. */
export class FabricServer {
  readonly peer: Peer;
  readonly #options: FabricServerOptions;
  readonly #switch: EthernetSwitch;
  readonly #uplink: CablePort;
  readonly #probes: WindowProbes;
  readonly #cables = new Map<string, CablePort>();
  #isPasstStarting = false;
  #capture: CaptureFile | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #timerDueMs = Infinity;

  constructor(options: FabricServerOptions) {
    const { clock, seed, onEvent } = options;
    this.#options = options;
    this.#switch = new EthernetSwitch({
      clock,
      random: new SeededRandom(seed),
      onMacMove: (move) => onEvent({ kind: "mac-moved", ...move }),
    });
    const { peerMac: mac, peerIp: ip, gatewayMac, gatewayIp } = networkPlan;
    const peerPort = this.#switch.addPort({
      name: PEER_PORT,
      sink: {
        accept: (frame) => {
          this.peer.frame(frame);
          return "sent";
        },
      },
    });
    this.peer = new Peer({ clock, station: { mac, ip }, send: (frame) => peerPort.receive(frame) });
    peerPort.setUp(true);
    const isForGateway = gatewayFilter({ mac: gatewayMac, ip: gatewayIp });
    const saysSomethingNew = ackThinning(clock);
    this.#probes = new WindowProbes({ clock, send: (frame) => this.#uplink.port.receive(frame) });
    this.#uplink = this.#cablePort(UPLINK_PORT, {
      filter: (frame) => isForGateway(frame) && saysSomethingNew(frame),
      trim: withoutPadding,
      watch: {
        sent: (frame) => this.#probes.fromGuest(frame),
        received: (frame) => this.#probes.fromUplink(frame),
        unplugged: () => this.#probes.forget(),
      },
    });
  }

  /** Adds a port where one host at a time can plug in. Rejects with `socket-path-unusable`, or `port-exists`. */
  async addCable(name: string, directory: string): Promise<void> {
    if (this.#switch.port(name) !== undefined) {
      throw new OperationError({
        code: "port-exists",
        message: `the fabric already has a port named "${name}"`,
        advice: `Name each cable once, and none "${PEER_PORT}" or "${UPLINK_PORT}".`,
        facts: { name },
      });
    }
    const cable = this.#cablePort(name);
    this.#cables.set(name, cable);
    await cable.listen(cablePath(directory, name));
  }

  /** Starts passt and plugs it in. Rejects with `passt-failed`, or `passt-runs`. Resolves to its process number. */
  async connectPasst(program: string): Promise<number> {
    if (this.#uplink.isPlugged || this.#isPasstStarting) {
      throw new OperationError({
        code: "passt-runs",
        message: "passt is plugged in already",
        advice: "One is enough: it knows one guest.",
      });
    }
    this.#isPasstStarting = true;
    try {
      const passt = await startPasst({ program, plan: networkPlan, cable: this.#uplink.cableOptions() });
      this.#uplink.plug(passt.cable);
      return passt.pid;
    } finally {
      this.#isPasstStarting = false;
    }
  }

  /** Rejects with `port-unknown`. What is not named stays as it is. */
  setLink(name: string, change: { up?: boolean } & Partial<LinkSettings>): void {
    const port = this.#switch.port(name);
    if (port === undefined) {
      throw new OperationError({
        code: "port-unknown",
        message: `the fabric has no port named "${name}"`,
        advice: `Its ports are ${this.#switch.ports.map((one) => one.name).join(", ")}.`,
        facts: { name },
      });
    }
    const { up, ...settings } = change;
    if (Object.keys(settings).length > 0) port.setLink(settings);
    if (up !== undefined) {
      const cable = name === UPLINK_PORT ? this.#uplink : this.#cables.get(name);
      if (cable === undefined) port.setUp(up);
      else cable.setEnabled(up);
    }
    this.pump();
  }

  counters(): FabricCounters {
    const cables = [this.#uplink, ...this.#cables.values()];
    return {
      atMs: this.#options.clock.nowMs(),
      switch: this.#switch.counters(),
      peer: this.peer.counters,
      cablesTurnedAway: cables.reduce((sum, cable) => sum + cable.turnedAway, 0),
      cablesGarbled: cables.reduce((sum, cable) => sum + cable.garbled, 0),
    };
  }

  /** Captures every frame at every port it passes, and the dropped ones with the cause. Rejects with `capture-failed`, `capture-runs`. */
  async startCapture(file: string): Promise<void> {
    if (this.#capture !== undefined) {
      throw new OperationError({
        code: "capture-runs",
        message: "a capture is running already",
        advice: "Stop it first.",
      });
    }
    const interfaces = this.#switch.ports.map(({ name }) => ({ name, description: `port ${name} of the fabric` }));
    const capture = await CaptureFile.create({ path: file, interfaces, clock: this.#options.clock });
    this.#capture = capture;
    this.#switch.setTap((port, direction, bytes, dropped) => {
      const comment = dropped === undefined ? {} : { comment: `dropped: ${dropped}` };
      capture.frame({ interfaceIndex: port.index, direction, bytes, ...comment });
    });
  }

  /** Rejects with `capture-failed`. Null when none ran. */
  async stopCapture(): Promise<CaptureSummary | null> {
    const capture = this.#capture;
    this.#capture = undefined;
    this.#switch.setTap(undefined);
    return capture === undefined ? null : capture.close();
  }

  /** Does what is due, and sets the timer for what is due next. */
  pump(): void {
    this.#switch.service();
    this.peer.service();
    this.#probes.service();
    const dueMs = Math.min(this.#switch.nextDueMs(), this.peer.nextDueMs(), this.#probes.nextDueMs());
    if (dueMs === this.#timerDueMs) return;
    clearTimeout(this.#timer);
    this.#timerDueMs = dueMs;
    if (dueMs === Infinity) return;
    const delayMs = Math.min(Math.max(0, dueMs - this.#options.clock.nowMs()), TIMER_MS_MAX);
    this.#timer = setTimeout(() => {
      this.#timerDueMs = Infinity;
      this.pump();
    }, delayMs);
  }

  /** Pulls all cables, ends passt and completes the capture. */
  async close(): Promise<void> {
    clearTimeout(this.#timer);
    this.#uplink.close();
    for (const cable of this.#cables.values()) cable.close();
    await this.stopCapture();
  }

  #cablePort(name: string, uplink: Pick<CablePortOptions, "filter" | "trim" | "watch"> = {}): CablePort {
    const { clock, onEvent } = this.#options;
    return new CablePort({
      fabric: this.#switch,
      name,
      ...uplink,
      onBatchEnd: () => this.pump(),
      onPlugged: () => onEvent({ kind: "plugged", port: name, atMs: clock.nowMs() }),
      onUnplugged: (error) => {
        const why = error?.message ?? "the cable was pulled";
        onEvent({ kind: "unplugged", port: name, atMs: clock.nowMs(), why });
      },
    });
  }
}
