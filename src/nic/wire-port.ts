// Where the VF meets the wire: the PF's filter before the receive unit, its anti-spoofing behind the transmit unit.
import type { PhysicalFunction } from "./physical-function.ts";
import type { FrameSink } from "./ports.ts";
import { VFLINKS, VFLINKS_UP } from "./registers.ts";
import { FilterVerdict } from "./switch-filter.ts";

// Bound here: V8 folds a module's own constants into its code, and reads and checks imported ones at each use.
const { accepted } = FilterVerdict;
const LINKS = VFLINKS >>> 2;
const UP = VFLINKS_UP;

/** Frames from the wire that never reached a receive queue. */
export interface ReceiveDrops {
  /** The VF was stopped. */
  stopped: number;
  linkDown: number;
  /** The PF has not let the VF receive: before RESET, after a withdrawn CTS, or jumbo frames under API 1.0. */
  receiveDisabled: number;
  runt: number;
  otherAddress: number;
  otherVlan: number;
}

/** Frames the VF sent that never reached the wire. */
export interface TransmitDrops {
  linkDown: number;
  /** Anti-spoofing: another source address, or a VLAN the VF is no member of. */
  spoofed: number;
}

export class WirePort {
  readonly receiveDrops: ReceiveDrops = {
    stopped: 0,
    linkDown: 0,
    receiveDisabled: 0,
    runt: 0,
    otherAddress: 0,
    otherVlan: 0,
  };
  readonly transmitDrops: TransmitDrops = { linkDown: 0, spoofed: 0 };
  readonly #registers: Uint32Array;
  readonly #pf: PhysicalFunction;
  readonly #uplink: FrameSink;

  constructor(parts: { registers: Uint32Array; pf: PhysicalFunction; uplink: FrameSink }) {
    this.#registers = parts.registers;
    this.#pf = parts.pf;
    this.#uplink = parts.uplink;
  }

  /** Whether a frame from the wire is for the VF; if not, it is counted. */
  admits(frame: Uint8Array, isStopped: boolean): boolean {
    const drops = this.receiveDrops;
    if (isStopped) drops.stopped++;
    else if (!this.#isLinkUp()) drops.linkDown++;
    else if (!this.#pf.receiveEnabled) drops.receiveDisabled++;
    else {
      const verdict = this.#pf.filter.verdict(frame);
      if (verdict === accepted) return true;
      if (verdict === FilterVerdict.runt) drops.runt++;
      else if (verdict === FilterVerdict.otherVlan) drops.otherVlan++;
      else drops.otherAddress++;
    }
    return false;
  }

  /** Sends a frame of the VF, if it may. */
  send(frame: Uint8Array): void {
    if (!this.#isLinkUp()) this.transmitDrops.linkDown++;
    else if (!this.#pf.filter.maySend(frame)) this.transmitDrops.spoofed++;
    else this.#uplink.frame(frame);
  }

  #isLinkUp(): boolean {
    return ((this.#registers[LINKS] as number) & UP) !== 0;
  }
}
