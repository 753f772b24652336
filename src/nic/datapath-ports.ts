// What receive and transmit share with whoever composes them: hooks, the view of a ring, and the shapes they are saved in.

/** Direction of a queue, with the numbers that VTIVAR uses (ixgbevf_set_ivar: 0 for Rx, 1 for Tx). */
export const QueueDirection = { receive: 0, transmit: 1 } as const;
export type QueueDirection = (typeof QueueDirection)[keyof typeof QueueDirection];

/** What the datapath asks of the rest of the VF. */
export interface DatapathHooks {
  /** A write-back of this queue is in memory: its interrupt cause is due. */
  cause(queue: number, direction: QueueDirection): void;
  /** A whole frame without FCS leaves the VF. The bytes are good until the call returns. */
  transmit(frame: Uint8Array): void;
}

/**
 * Whether a queue works, and if not, why. Everything but `disabled` and `ready` is the guest's mistake: the queue does
 * nothing until the guest programs it again (any of the queue's registers, or a good tail for `bad-index`); after
 * `dma-fault`, until it disables the queue.
 */
export type QueueCondition =
  | "disabled"
  | "ready"
  /** VFRDLEN or VFTDLEN is 0, not a multiple of 8 descriptors, or above 4096 descriptors. */
  | "bad-length"
  /** The head or the tail is not an index into the ring. */
  | "bad-index"
  /** SRRCTL asks for a packet buffer of 0, or for descriptors other than advanced with one buffer. */
  | "bad-buffer"
  /** A descriptor could not be read or written back. */
  | "dma-fault";

/** A descriptor ring as the registers describe it now. */
export interface RingView {
  readonly enabled: boolean;
  readonly condition: QueueCondition;
  /** Address of descriptor 0 as the device uses it (before the IOMMU). */
  readonly base: number;
  /** Ring length in descriptors; 0 when VFRDLEN or VFTDLEN is nonsense. */
  readonly descriptors: number;
  /** First descriptor the device has not written back (receive) or not fetched (transmit). */
  readonly head: number;
  readonly tail: number;
}

/** Hidden state of one receive queue, beside its registers. */
export interface ReceiveQueueState {
  /** Some descriptors of a frame are written back and its end of packet is not: the device owes the driver the end. */
  frameInProgress: boolean;
  /** A write-back is in memory whose interrupt cause was not raised yet. */
  causePending: boolean;
  /** A descriptor could not be reached; the queue stands still until it is disabled. */
  dmaFault: boolean;
}

/** Frames still in the packet buffer are not state: a network may lose them, and the migration counts them. */
export interface ReceiveState {
  queues: ReceiveQueueState[];
}

/** One of the two context slots of a transmit queue: the words of the last context descriptor with that index. */
export interface TransmitContextState {
  valid: boolean;
  vlanMacipLens: number;
  typeTucmdMlhl: number;
  mssL4lenIdx: number;
}

/** Hidden state of one transmit queue, beside its registers. */
export interface TransmitQueueState {
  contexts: [TransmitContextState, TransmitContextState];
  /** Every RS descriptor from here up to the head was sent and still owes its DD. Equal to the head when none does. */
  reported: number;
  causePending: boolean;
  dmaFault: boolean;
}

export interface TransmitState {
  queues: TransmitQueueState[];
  /** The queue whose turn it is. */
  nextQueue: number;
}

/*
 * Both units are made with ({ registers, dma, hooks, queuePairs, ... }) and offer
 *   step(): boolean            one beat: at most one DMA write or one cause; false when there is nothing to do
 *   tailWritten(queue)         the guest wrote VFRDT or VFTDT (the register already holds it)
 *   queueChanged(queue)        the guest wrote another register of the queue
 *   stop(), start()            stop begins no new frame; `isAtFrameBoundary` says when what was begun is finished
 *   reset()                    after the registers took their reset values
 *   ring(queue): RingView
 *   save(), restore(state)     restore comes after the registers were restored
 * Receive also: frame(bytes): boolean (from the network), rssChanged(), frameBytesMax (set by the PF), framesHeld.
 * Transmit also: flush(queue) for VFTXDCTL.SWFLSH.
 */
