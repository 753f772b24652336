// The VF's counters by name: traffic, drops by cause, guest mistakes by kind.
import type { ReceiveCounters } from "./receive-counters.ts";
import type { TransmitCounters } from "./transmit-sender.ts";
import type { VfParts } from "./vf-parts.ts";
import type { ReceiveDrops, TransmitDrops } from "./wire-port.ts";

export interface Resets {
  functionLevel: number;
  /** VFCTRL.RST. */
  software: number;
  /** Started by the PF. */
  physicalFunction: number;
}

/** Mistakes of the guest: each has an outcome the guest can see, and is otherwise harmless. */
export interface GuestMistakes {
  /** Register accesses that were not 32 bits wide at a multiple of four. */
  readonly oddRegisterAccesses: number;
  readonly unknownRegisters: number;
  /** Writes to registers of queues the PF has not given to the VF. */
  readonly missingQueues: number;
  readonly oddConfigurationAccesses: number;
  readonly oddVectorTableAccesses: number;
  /** Mailbox requests the PF refused. */
  readonly refusedRequests: number;
}

/** Since the VF was made; nothing here is saved or restored. */
export interface VfStatistics {
  /** Frames for the VF, from the packet buffer on. */
  readonly receive: Readonly<ReceiveCounters>;
  readonly transmit: Readonly<TransmitCounters>;
  /** Frames that never reached the packet buffer. */
  readonly receiveDrops: Readonly<ReceiveDrops>;
  /** Frames that never reached the wire. */
  readonly transmitDrops: Readonly<TransmitDrops>;
  /** Frames in the packet buffer now. */
  readonly framesHeld: number;
  readonly interruptsSent: number;
  readonly requestsAccepted: number;
  readonly resets: Readonly<Resets>;
  readonly guestMistakes: GuestMistakes;
}

export function statisticsOf(parts: VfParts, resets: Resets): VfStatistics {
  const { wire, receive, transmit, endpoint, file, dispatch, pf } = parts;
  return {
    receive: { ...receive.counters },
    transmit: { ...transmit.counters },
    receiveDrops: { ...wire.receiveDrops },
    transmitDrops: { ...wire.transmitDrops },
    framesHeld: receive.framesHeld,
    interruptsSent: endpoint.msix.sent,
    requestsAccepted: pf.requests.accepted,
    resets: { ...resets },
    guestMistakes: {
      oddRegisterAccesses: file.mistakes.oddAccesses,
      unknownRegisters: file.mistakes.unknownRegisters,
      missingQueues: dispatch.missingQueues,
      oddConfigurationAccesses: endpoint.configuration.mistakes,
      oddVectorTableAccesses: endpoint.msix.mistakes,
      refusedRequests: pf.requests.refused,
    },
  };
}
