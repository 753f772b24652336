// One port of the switch: the two wires of its link, its plug, and its counters.
import type { Clock } from "../base/clock.ts";
import { SeededRandom } from "../base/random.ts";
import { DirectionCounter, type DropCause, type PortCounters } from "./counters.ts";
import { perfectLink, Wire, type LinkSettings } from "./wire.ts";

/** Where frames leave the switch. */
export interface PortSink {
  /**
   * Takes a frame that left the switch, copying what it keeps. A sink that puts frames on their way later answers
   * "queued" and reports through `SwitchPort.noteSent` and `noteUnplugged`; one whose backlog is full, "refused".
   */
  accept(frame: Uint8Array): "sent" | "queued" | "refused";
}

export interface PortOptions {
  readonly name: string;
  readonly sink: PortSink;
  /** Frames for which it says no are not let out here. Without it all are. */
  readonly filter?: (frame: Uint8Array) => boolean;
}

/** What a port needs of its switch. */
export interface PortHost {
  readonly clock: Clock;
  readonly queueBytesMax: number;
  switchFrame(from: SwitchPort, frame: Uint8Array): number | DropCause;
  linkWentDown(port: SwitchPort): void;
  seen(port: SwitchPort, side: "in" | "out", frame: Uint8Array, dropped: DropCause | undefined): void;
}

export class SwitchPort {
  readonly name: string;
  readonly index: number;
  readonly #host: PortHost;
  readonly #sink: PortSink;
  readonly #filter: ((frame: Uint8Array) => boolean) | undefined;
  readonly #in = new DirectionCounter();
  readonly #out = new DirectionCounter();
  readonly #inWire: Wire;
  readonly #outWire: Wire;
  #isUp = false;
  #handedOver = 0;
  #copies = 0;
  #filtered = 0;
  #settings: LinkSettings = perfectLink;

  constructor(host: PortHost, options: PortOptions & { index: number; seeds: { in: number; out: number } }) {
    this.name = options.name;
    this.index = options.index;
    this.#host = host;
    this.#sink = options.sink;
    this.#filter = options.filter;
    const { clock, queueBytesMax } = host;
    this.#inWire = new Wire({
      clock,
      random: new SeededRandom(options.seeds.in),
      queueBytesMax,
      deliver: (frame) => this.#arrived(frame),
      drop: (frame, cause) => this.#drop("in", frame, cause),
    });
    this.#outWire = new Wire({
      clock,
      random: new SeededRandom(options.seeds.out),
      queueBytesMax,
      deliver: (frame) => this.#leave(frame),
      drop: (frame, cause) => this.#drop("out", frame, cause),
    });
  }

  get isUp(): boolean {
    return this.#isUp;
  }

  /** Pulls the plug or puts it in. Going down drops what is queued and forgets the stations behind the port. */
  setUp(up: boolean): void {
    if (up === this.#isUp) return;
    this.#isUp = up;
    if (up) return;
    this.#inWire.cut();
    this.#outWire.cut();
    this.#host.linkWentDown(this);
  }

  /** Sets speed and loss of both directions; what is not named stays. */
  setLink(change: Partial<LinkSettings>): void {
    this.#settings = { ...this.#settings, ...change };
    this.#inWire.set(this.#settings);
    this.#outWire.set(this.#settings);
  }

  /** A frame comes in from the station. The bytes are the caller's again when it returns. */
  receive(frame: Uint8Array): void {
    this.#in.offer(frame);
    if (this.#isUp) this.#inWire.offer(frame);
    else this.#drop("in", frame, "link-down");
  }

  /** Whether a frame may leave here: the link is up, and the filter, which counts its refusals, agrees. */
  admits(frame: Uint8Array): boolean {
    if (!this.#isUp) return false;
    if (this.#filter === undefined || this.#filter(frame)) return true;
    this.#filtered++;
    return false;
  }

  /** The switch sends a frame out here. */
  send(frame: Uint8Array): void {
    this.#out.offer(frame);
    if (this.#isUp) this.#outWire.offer(frame);
    else this.#drop("out", frame, "link-down");
  }

  /** Frames that the sink answered "queued" for are on their way now. */
  noteSent(frames: number, bytes: number): void {
    this.#handedOver -= frames;
    this.#out.pass(frames, bytes);
  }

  /** Frames that the sink answered "queued" for will not go out any more. */
  noteUnplugged(frames: number): void {
    this.#handedOver -= frames;
    this.#out.drop("unplugged", frames);
  }

  service(): void {
    this.#inWire.service();
    this.#outWire.service();
  }

  nextDueMs(): number {
    return Math.min(this.#inWire.nextDueMs(), this.#outWire.nextDueMs());
  }

  counters(): PortCounters {
    return {
      name: this.name,
      up: this.#isUp,
      in: this.#in.snapshot(this.#inWire.queuedFrames),
      out: this.#out.snapshot(this.#outWire.queuedFrames + this.#handedOver),
      copies: this.#copies,
      filtered: this.#filtered,
    };
  }

  /** A frame came through the inward wire. */
  #arrived(frame: Uint8Array): void {
    const outcome = this.#host.switchFrame(this, frame);
    if (typeof outcome === "string") {
      this.#drop("in", frame, outcome);
      return;
    }
    this.#copies += outcome;
    this.#in.pass(1, frame.length);
  }

  /** A frame came through the outward wire. */
  #leave(frame: Uint8Array): void {
    const outcome = this.#sink.accept(frame);
    if (outcome === "refused") {
      this.#drop("out", frame, "backlog");
      return;
    }
    if (outcome === "sent") this.#out.pass(1, frame.length);
    else this.#handedOver++;
    this.#host.seen(this, "out", frame, undefined);
  }

  #drop(side: "in" | "out", frame: Uint8Array, cause: DropCause): void {
    (side === "in" ? this.#in : this.#out).drop(cause);
    this.#host.seen(this, side, frame, cause);
  }
}
