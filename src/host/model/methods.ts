// What the thread of a model VM can be asked, by the engine and by the bench.
import type { Counters } from "../../machine/model/state.ts";
import type { RingView } from "../../nic/datapath-ports.ts";
import type { VfState } from "../../nic/state.ts";
import type { PageLog, PageSource } from "../../strategy/strategy.ts";

/** A receive ring and what the driver posted in it, as of one moment. */
export interface RemoteRing {
  readonly view: RingView;
  /** Four words a slot. */
  readonly posted: Uint32Array;
  /** 1 for the slots that were ever posted. */
  readonly isPosted: Uint8Array;
}

/** What guest and network know of the traffic, since the guest was made or came here. */
export interface TrafficCounts {
  readonly guest: Readonly<Counters>;
  /** Why the guest died. */
  readonly panic: string | null;
  /** Frames given to the card; those that the sender could not send in time; and the number of the next one. */
  readonly offered: number;
  readonly skipped: number;
  readonly next: number;
  /** Frames the guest sent, and those that were not as it had made them. */
  readonly sent: number;
  readonly sentWrong: number;
}

/** The engine's. A page set travels as its members in ascending order. */
export type EngineMethods = {
  pause(parameters: null): void;
  resume(parameters: null): void;
  saveMachine(parameters: null): Uint8Array;
  restoreMachine(state: Uint8Array): void;
  logCpu(isOn: boolean): void;
  pages(source: PageSource): Uint32Array;
  putBack(parameters: { readonly log: PageLog; readonly pages: Uint32Array }): void;
  receiveRing(queue: number): RemoteRing;
  saveVf(parameters: null): VfState;
  restoreVf(state: VfState): void;
  startVf(parameters: null): void;
  stopVf(parameters: null): void;
  stopTransmit(parameters: null): void;
  resetVf(parameters: null): void;
  raiseAllEnabled(parameters: null): void;
};
