// Interrupts: causes to vectors, masks, auto-clear, auto-mask and throttling, ending in MSI-X messages.
import type { Clock } from "../base/clock.ts";
import {
  VECTORS_MAX,
  VTEIAC,
  VTEIAM,
  VTEICR,
  VTEIMS,
  VTEITR,
  VTEITR_CNT_WDIS,
  VTEITR_INTERVAL_MASK,
  VTEI_CAUSES,
  VTIVAR,
  VTIVAR_MISC,
  VTIVAR_VALID,
  VTIVAR_VECTOR_MASK,
  QUEUE_PAIRS_MAX,
} from "./registers.ts";

// Bound here: V8 folds a module's own constants into its code, and reads and checks imported ones at each use.
const EICR = VTEICR >>> 2;
const EIMS = VTEIMS >>> 2;
const EIAC = VTEIAC >>> 2;
const EIAM = VTEIAM >>> 2;
const IVAR = VTIVAR(0) >>> 2;
const VALID = VTIVAR_VALID;
const VECTOR_MASK = VTIVAR_VECTOR_MASK;
const CAUSES = VTEI_CAUSES;
const VECTORS = VECTORS_MAX;

/** Where a vector's message is sent from: the function's MSI-X table. */
export interface VectorSink {
  /** Whether messages may be asked for at all (MSI-X enabled); while not, causes stay in VTEICR. */
  readonly enabled: boolean;
  signal(vector: number): void;
}

/** What VTEICR, VTEIMS and the other registers do not say. */
export interface InterruptState {
  readonly vectors: readonly {
    /** A message was sent for the cause that still stands: no second one until it falls and rises again. */
    readonly asserted: boolean;
    /** Microseconds until the throttle lets the next message go. */
    readonly holdUs: number;
  }[];
}

/**
 * The interrupt block of the VF (82599 datasheet, sections 7.3 and 8.3.5.2).
 *
 * A cause sets its vector's bit in VTEICR. The line of a vector is VTEICR and VTEIMS; when it rises a message is
 * asked for, at the earliest when the throttle of the vector has run out. At that moment VTEIAC clears the VTEICR
 * bit and VTEIAM clears the VTEIMS bit (the PF driver sets GPIE.EIAME). Because everything hangs on the two
 * registers, a cause that finds its vector masked or throttled waits there, and is never lost.
 *
 * `ixgbevf` sets VTEIAC and VTEIAM for all vectors: a message masks its vector until the driver's poll ends with a
 * write to VTEIMS (ixgbevf_irq_enable_queues), which lets causes go that came meanwhile.
 */
export class InterruptUnit {
  /** Called when a message is held by the throttle: the host has a deadline to keep. */
  onDeadline: () => void = () => {};
  readonly #registers: Uint32Array;
  readonly #clock: Clock;
  readonly #sink: VectorSink;
  #asserted = 0;
  #waiting = 0;
  /** Clock times before which a vector may not send. */
  readonly #allowedAtMs = new Float64Array(VECTORS);

  constructor(parts: { registers: Uint32Array; clock: Clock; sink: VectorSink }) {
    this.#registers = parts.registers;
    this.#clock = parts.clock;
    this.#sink = parts.sink;
  }

  receiveCause(queue: number): void {
    this.#causeOf((this.#registers[IVAR + (queue >>> 1)] as number) >>> (16 * (queue & 1)));
  }

  transmitCause(queue: number): void {
    this.#causeOf((this.#registers[IVAR + (queue >>> 1)] as number) >>> (16 * (queue & 1) + 8));
  }

  mailboxCause(): void {
    this.#causeOf(this.#registers[VTIVAR_MISC >>> 2] as number);
  }

  /** Sets causes as VTEICS does. */
  setCauses(causes: number): void {
    const registers = this.#registers;
    const before = registers[EICR] as number;
    const after = (before | (causes & CAUSES)) >>> 0;
    // A cause that stands already raises no line: most causes of a burst are such.
    if (after === before && this.#waiting === 0) return;
    registers[EICR] = after;
    this.evaluate();
  }

  /**
   * Sets the cause of every vector that some VTIVAR names, once. A machine that resumes from an image in which
   * descriptors are done needs it, because the message for them may have gone elsewhere (hazard `lost-interrupt`).
   */
  raiseAllEnabled(): void {
    const registers = this.#registers;
    let causes = 0;
    for (let queue = 0; queue < QUEUE_PAIRS_MAX; queue++) {
      const entry = (registers[IVAR + (queue >>> 1)] as number) >>> (16 * (queue & 1));
      causes |= vectorBit(entry) | vectorBit(entry >>> 8);
    }
    this.setCauses(causes | vectorBit(registers[VTIVAR_MISC >>> 2] as number));
  }

  /** After VTEITR was written: without CNT_WDIS the write also clears the counter, so that the vector may fire now. */
  throttleWritten(vector: number, written: number): void {
    if ((written & VTEITR_CNT_WDIS) === 0) this.#allowedAtMs[vector] = 0;
    this.evaluate();
  }

  /** Clock time at which a held message may go, Infinity if none is held. */
  deadlineMs(): number {
    if (this.#waiting === 0) return Infinity;
    let earliest = Infinity;
    for (let v = 0; v < VECTORS; v++) {
      const allowedAtMs = this.#allowedAtMs[v] as number;
      if ((this.#waiting & (1 << v)) !== 0 && allowedAtMs < earliest) earliest = allowedAtMs;
    }
    return earliest;
  }

  /** Looks at every vector; to be called after any register of the block changed, and when a deadline has come. */
  evaluate(): void {
    const registers = this.#registers;
    const line = (registers[EICR] as number) & (registers[EIMS] as number) & CAUSES;
    this.#asserted &= line;
    this.#waiting &= line;
    if (!this.#sink.enabled) return;
    const rising = line & ~this.#asserted;
    if (rising !== 0) this.#offerAll(rising);
  }

  #offerAll(rising: number): void {
    for (let v = 0; v < VECTORS; v++) if ((rising & (1 << v)) !== 0) this.#offer(v);
  }

  reset(): void {
    this.#asserted = 0;
    this.#waiting = 0;
    this.#allowedAtMs.fill(0);
  }

  save(): InterruptState {
    const nowMs = this.#clock.nowMs();
    return {
      vectors: Array.from(this.#allowedAtMs, (allowedAtMs, v) => ({
        asserted: (this.#asserted & (1 << v)) !== 0,
        holdUs: Math.max(0, Math.round((allowedAtMs - nowMs) * 1000)),
      })),
    };
  }

  /** Loads what save() gave; evaluate() afterwards sends what may go. */
  restore(state: InterruptState): void {
    this.reset();
    const nowMs = this.#clock.nowMs();
    for (const [v, vector] of state.vectors.slice(0, VECTORS).entries()) {
      if (vector.asserted) this.#asserted |= 1 << v;
      this.#allowedAtMs[v] = vector.holdUs === 0 ? 0 : nowMs + vector.holdUs / 1000;
    }
  }

  #causeOf(entry: number): void {
    const bit = vectorBit(entry);
    if (bit !== 0) this.setCauses(bit);
  }

  /** A vector's line is up: send its message, or wait for the throttle. */
  #offer(vector: number): void {
    const registers = this.#registers;
    const bit = 1 << vector;
    // The masked value counts quarters of a microsecond: units of 2 us from bit 3.
    const intervalMs = ((registers[VTEITR(vector) >>> 2] as number) & VTEITR_INTERVAL_MASK) / 4000;
    const allowedAtMs = this.#allowedAtMs[vector] as number;
    const nowMs = intervalMs === 0 && allowedAtMs === 0 ? 0 : this.#clock.nowMs();
    if (nowMs < allowedAtMs) {
      if ((this.#waiting & bit) === 0) {
        this.#waiting |= bit;
        this.onDeadline();
      }
      return;
    }
    this.#waiting &= ~bit;
    this.#allowedAtMs[vector] = intervalMs === 0 ? 0 : nowMs + intervalMs;
    const cleared = (registers[EIAC] as number) & bit;
    const masked = (registers[EIAM] as number) & bit;
    registers[EICR] = (registers[EICR] as number) & ~cleared;
    registers[EIMS] = (registers[EIMS] as number) & ~masked;
    if ((cleared | masked) === 0) this.#asserted |= bit;
    this.#sink.signal(vector);
  }
}

/** The VTEICR bit of a VTIVAR entry; zero if the entry is not valid or names no vector. */
function vectorBit(entry: number): number {
  if ((entry & VALID) === 0) return 0;
  const vector = entry & VECTOR_MASK;
  return vector < VECTORS ? 1 << vector : 0;
}
