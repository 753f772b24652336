// A saved VF as the audit reads it: registers by their offset, hidden state by queue.
import type { ReceiveQueueState, TransmitQueueState } from "../nic/datapath-ports.ts";
import { restoreRegisters } from "../nic/register-state.ts";
import { REGISTER_COUNT, VECTORS_MAX } from "../nic/registers.ts";
import type { VfState } from "../nic/state.ts";

export class VfView {
  readonly state: VfState;
  readonly #registers = new Uint32Array(REGISTER_COUNT);

  constructor(state: VfState) {
    this.state = state;
    restoreRegisters(this.#registers, state.registers);
  }

  /** The register at a byte offset into BAR0. */
  register(offset: number): number {
    return this.#registers[offset >>> 2] ?? 0;
  }

  receive(queue: number): ReceiveQueueState | undefined {
    return this.state.receive.queues[queue];
  }

  transmit(queue: number): TransmitQueueState | undefined {
    return this.state.transmit.queues[queue];
  }

  /** A message of the vector waits in the MSI-X table for its mask to go. */
  isMessagePending(vector: number): boolean {
    return vector < VECTORS_MAX && this.state.pci.msixVectors[vector]?.pending === true;
  }
}
