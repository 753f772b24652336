// What the served VF's cable is plugged into: nothing, the built-in peer, passt, or a socket that speaks QEMU's framing.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { unreachable } from "../../base/assert.ts";
import { OperationError } from "../../base/errors.ts";
import { Peer } from "../../network/peer.ts";
import { networkPlan } from "../../network/plan.ts";
import type { FrameSink } from "../../nic/ports.ts";
import { preparePasst } from "../assets.ts";
import { hostClock } from "../clock.ts";
import { plugCable, type Cable } from "../fabric-client.ts";
import { UPLINK_PORT } from "../fabric-messages.ts";
import { cablePath, FabricServer } from "../fabric-server.ts";

export type UplinkChoice =
  | { readonly kind: "none" }
  /** Answers ARP and ping as 10.0.2.3. */
  | { readonly kind: "peer" }
  /** The host's own TCP stack behind 10.0.2.2, for a guest that is 10.0.2.15. */
  | { readonly kind: "passt" }
  | { readonly kind: "unix"; readonly path: string };

export interface UplinkEvents {
  /** The bytes are good until it returns. */
  readonly onFrame: (frame: Uint8Array) => void;
  /** The link has come up or gone down since the uplink was opened. */
  readonly onLink: (isUp: boolean, why: string) => void;
}

export interface Uplink extends FrameSink {
  readonly isUp: boolean;
  close(): Promise<void>;
}

const RECONNECT_MS = 1000;

/** Rejects with OperationError `uplink-unreachable`, or as preparePasst and startPasst do. */
export async function openUplink(choice: UplinkChoice, events: UplinkEvents): Promise<Uplink> {
  switch (choice.kind) {
    case "none":
      return { isUp: false, frame: () => {}, close: async () => {} };
    case "peer":
      return peerUplink(events);
    case "passt":
      return PasstUplink.open(events);
    case "unix":
      return SocketUplink.open(choice.path, events);
    default:
      return unreachable(choice);
  }
}

/** The VF is not called back from within its own sending. */
function peerUplink(events: UplinkEvents): Uplink {
  const { peerMac: mac, peerIp: ip } = networkPlan;
  const send = (frame: Uint8Array): void => {
    const kept = frame.slice();
    setImmediate(() => events.onFrame(kept));
  };
  const peer = new Peer({ clock: hostClock, station: { mac, ip }, send });
  return { isUp: true, frame: (bytes) => peer.frame(bytes), close: async () => {} };
}

/** passt needs a switch's help (filters, window probes), which the fabric has; the VF is plugged in by a cable. */
class PasstUplink implements Uplink {
  readonly #cable: Cable;
  readonly #close: () => Promise<void>;
  #isUp = true;
  #isClosed = false;

  static async open(events: UplinkEvents): Promise<Uplink> {
    const { path: program } = await preparePasst();
    const directory = await mkdtemp(path.join(tmpdir(), "uw-"));
    const watch = { onUnplugged: (_why: string): void => {} };
    const fabric = new FabricServer({
      clock: hostClock,
      seed: 0,
      onEvent: (event) => {
        if (event.kind === "unplugged" && event.port === UPLINK_PORT) watch.onUnplugged(event.why);
      },
    });
    const close = async (): Promise<void> => {
      await fabric.close();
      await rm(directory, { recursive: true, force: true });
    };
    try {
      await fabric.addCable("vf", directory);
      await fabric.connectPasst(program);
      const uplink = new PasstUplink(await plugCable(cablePath(directory, "vf")), close, events);
      watch.onUnplugged = (why) => uplink.#passtEnded(why, events);
      return uplink;
    } catch (thrown) {
      await close();
      throw thrown;
    }
  }

  private constructor(cable: Cable, close: () => Promise<void>, events: UplinkEvents) {
    this.#cable = cable;
    this.#close = close;
    cable.onFrame = (frame) => events.onFrame(frame);
  }

  get isUp(): boolean {
    return this.#isUp;
  }

  #passtEnded(why: string, events: UplinkEvents): void {
    if (this.#isClosed) return;
    this.#isUp = false;
    events.onLink(false, `passt ended (${why})`);
  }

  frame(bytes: Uint8Array): void {
    this.#cable.frame(bytes);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#cable.close();
    await this.#close();
  }
}

/** A cable that is plugged in again whenever the other end comes back. */
class SocketUplink implements Uplink {
  readonly #path: string;
  readonly #events: UplinkEvents;
  #cable: Cable | undefined;
  #isClosed = false;
  #timer: NodeJS.Timeout | undefined;

  static async open(socketPath: string, events: UplinkEvents): Promise<Uplink> {
    const uplink = new SocketUplink(socketPath, events);
    try {
      await uplink.#plug();
      return uplink;
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new OperationError({
        code: "uplink-unreachable",
        message: `The uplink cannot be plugged in at ${socketPath}: ${reason}.`,
        advice:
          "Start what listens there first: a switch's port, or QEMU with -netdev stream,server=on,addr.type=unix.",
        facts: { socketPath },
        cause,
      });
    }
  }

  private constructor(socketPath: string, events: UplinkEvents) {
    this.#path = socketPath;
    this.#events = events;
  }

  get isUp(): boolean {
    return this.#cable !== undefined;
  }

  frame(bytes: Uint8Array): void {
    this.#cable?.frame(bytes);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#cable?.close();
  }

  async #plug(): Promise<void> {
    const cable = await plugCable(this.#path);
    if (this.#isClosed) return cable.close();
    this.#cable = cable;
    cable.onFrame = (frame) => this.#events.onFrame(frame);
    void this.#replugWhenOut(cable);
  }

  async #replugWhenOut(cable: Cable): Promise<void> {
    const error = await cable.closed;
    this.#cable = undefined;
    if (this.#isClosed) return;
    this.#events.onLink(false, error?.message ?? "the other end hung up");
    this.#plugLater();
  }

  #plugLater(): void {
    this.#timer = setTimeout(() => void this.#plugAgain(), RECONNECT_MS);
  }

  async #plugAgain(): Promise<void> {
    try {
      await this.#plug();
      if (this.isUp) this.#events.onLink(true, "it is plugged in again");
    } catch {
      this.#plugLater();
    }
  }
}
