// What a VF is put together from, and the threads between the parts.
import { assert } from "../base/assert.ts";
import type { Clock } from "../base/clock.ts";
import type { DmaPort } from "../iommu/dma-port.ts";
import { PciEndpoint } from "../pci/endpoint.ts";
import type { BarDescription, MessageSink } from "../pci/function.ts";
import { Beats } from "./beats.ts";
import { QueueDirection } from "./datapath-ports.ts";
import { InterruptUnit } from "./interrupts.ts";
import { MAC_BYTES } from "./mac-address.ts";
import { MailboxApi } from "./mailbox-messages.ts";
import { PhysicalFunction } from "./physical-function.ts";
import type { LinkState } from "./physical-function.ts";
import type { FrameSink } from "./ports.ts";
import { ReceiveUnit } from "./receive.ts";
import type { ReceiveOptions } from "./receive.ts";
import { RegisterDispatch } from "./register-dispatch.ts";
import { makeRegisters, RegisterFile } from "./register-file.ts";
import { QUEUE_PAIRS_MAX, REGISTER_BAR_BYTES, VECTORS_MAX, VFTDWBAH, VFTDWBAL } from "./registers.ts";
import { TransmitUnit } from "./transmit.ts";
import { WirePort } from "./wire-port.ts";

// Bound here: V8 folds a module's own constants into its code, and reads and checks imported ones at each use.
const RECEIVE = QueueDirection.receive;

/** What the datapath may be told beyond its registers. */
export type DatapathTuning = Pick<ReceiveOptions, "packetBufferBytes" | "prefetchDescriptors" | "bufferUnitBytes">;

export interface Vf82599Options {
  /** The VF's way to the guest's memory. */
  readonly dma: DmaPort;
  /** Where MSI-X messages go. */
  readonly messages: MessageSink;
  /** Where frames go that the VF sends. */
  readonly uplink: FrameSink;
  readonly clock: Clock;
  /** Six bytes; all zero lets the guest choose its address. */
  readonly mac: Uint8Array;
  /** Queue pairs the PF gives to the VF, 1 to 8; 2 unless said otherwise, which is the most ixgbevf uses. */
  readonly queuePairsMax?: number;
  /** Newest mailbox API the PF agrees to; 1.5 unless said otherwise. */
  readonly mailboxApiMax?: MailboxApi;
  /** Whether the PF lets the guest change its address and ask for all multicast; true unless said otherwise. */
  readonly trusted?: boolean;
  /** The link at power-on; up at 10 Gb/s unless said otherwise. */
  readonly link?: LinkState;
  readonly datapath?: DatapathTuning;
}

const identity = {
  vendorId: 0x8086,
  deviceId: 0x10ed,
  subsystemVendorId: 0x8086,
  subsystemId: 0x000c,
  revision: 1,
  classCode: 0x02_0000,
} as const;
const vectorBar: BarDescription = { index: 3, sizeBytes: 0x4000, is64Bit: true };

/** What the parts ask of the VF as a whole. */
export interface VfHooks {
  /** VFFRTIMER now. */
  readonly timerUs: () => number;
  readonly onFunctionLevelReset: () => void;
  /** VFCTRL.RST was written. */
  readonly onSoftwareReset: () => void;
  /** The receive unit has heard of a new tail, or of another register, of this queue. */
  readonly onReceiveTail: (queue: number) => void;
  readonly onReceiveQueue: (queue: number) => void;
}

export interface VfParts {
  readonly queuePairs: number;
  readonly registers: Uint32Array;
  readonly endpoint: PciEndpoint;
  readonly file: RegisterFile;
  readonly dispatch: RegisterDispatch;
  readonly interrupts: InterruptUnit;
  readonly pf: PhysicalFunction;
  readonly receive: ReceiveUnit;
  readonly transmit: TransmitUnit;
  readonly wire: WirePort;
  readonly beats: Beats;
}

/** The parts know each other by functions that are called only when all of them are there. */
export function makeVfParts(options: Vf82599Options, hooks: VfHooks): VfParts {
  const { dma, clock } = options;
  const queuePairs = options.queuePairsMax ?? 2;
  assert(queuePairs >= 1 && queuePairs <= QUEUE_PAIRS_MAX, `${queuePairs} queue pairs`);
  assert(options.mac.length === MAC_BYTES, `a MAC address has ${MAC_BYTES} bytes`);
  const registers = makeRegisters();
  const endpoint = makeEndpoint(options.messages, hooks, () => parts);
  const interrupts = new InterruptUnit({ registers, clock, sink: endpoint.msix });
  interrupts.onDeadline = () => parts.beats.deadlineSet();
  // The PF fills in the RSS registers, which the receive unit reads when it is made.
  const pf = makePf(options, { registers, queuePairs }, () => parts);
  const wire = new WirePort({ registers, pf, uplink: options.uplink });
  const datapathHooks = {
    cause: (queue: number, direction: QueueDirection): void => {
      if (direction === RECEIVE) interrupts.receiveCause(queue);
      else interrupts.transmitCause(queue);
    },
    transmit: (frame: Uint8Array): void => wire.send(frame),
  };
  const receive = new ReceiveUnit({ registers, dma, queuePairs, hooks: datapathHooks, ...options.datapath });
  const transmit = new TransmitUnit({ registers, dma, queuePairs, hooks: datapathHooks });
  const units = { queuePairs, interrupts, pf, receive, transmit };
  const beats = new Beats({ ...units, clock, dma, isBusMaster: () => endpoint.busMasterEnabled });
  const dispatch = new RegisterDispatch({ ...units, ...hooks, registers, onDoorbell: () => beats.wake() });
  const file = new RegisterFile(registers, dispatch);
  const parts: VfParts = { ...units, registers, endpoint, file, dispatch, wire, beats };
  return parts;
}

function makeEndpoint(messages: MessageSink, hooks: VfHooks, parts: () => VfParts): PciEndpoint {
  return new PciEndpoint({
    identity,
    bars: [
      {
        index: 0,
        sizeBytes: REGISTER_BAR_BYTES,
        is64Bit: true,
        read: (offset, bytes) => parts().file.read(offset, bytes),
        write: (offset, bytes, value) => parts().file.write(offset, bytes, value),
      },
    ],
    msix: { vectors: VECTORS_MAX, tableOffset: 0, pendingOffset: 0x2000, bar: vectorBar, capabilityOffset: 0x70 },
    expressCapabilityOffset: 0xa0,
    messages,
    onFunctionLevelReset: hooks.onFunctionLevelReset,
    onGatesChanged: () => {
      parts().interrupts.evaluate();
      parts().beats.busChanged();
    },
  });
}

function makePf(
  options: Vf82599Options,
  { registers, queuePairs }: { registers: Uint32Array; queuePairs: number },
  parts: () => VfParts,
): PhysicalFunction {
  return new PhysicalFunction({
    registers,
    clock: options.clock,
    mac: options.mac,
    queuePairs,
    apiMax: options.mailboxApiMax ?? MailboxApi.v15,
    trusted: options.trusted ?? true,
    link: options.link ?? { up: true, speedMbps: 10_000 },
    raise: () => parts().interrupts.mailboxCause(),
    clearHeadWriteBack: () => clearHeadWriteBack(parts()),
    onRecordChanged: () => {
      parts().receive.frameBytesMax = parts().pf.frameLimitBytes;
    },
    onDeadline: () => parts().beats.deadlineSet(),
  });
}

/** What only the PF does: neither FLR nor VFCTRL.RST clears these (hazard `stale-head-writeback`). */
export function clearHeadWriteBack({ registers, queuePairs, transmit }: VfParts): void {
  for (let queue = 0; queue < QUEUE_PAIRS_MAX; queue++) {
    registers[VFTDWBAL(queue) >>> 2] = 0;
    registers[VFTDWBAH(queue) >>> 2] = 0;
    if (queue < queuePairs) transmit.queueChanged(queue);
  }
}
