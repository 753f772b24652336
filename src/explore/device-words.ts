// What the device did, in words: from its writes, and from what is different about the source afterwards.
import { DmaPurpose } from "../iommu/dma-port.ts";
import { DESCRIPTOR_BYTES, RXD_STAT_EOP } from "../nic/descriptors.ts";
import type { VfStatistics } from "../nic/vf-statistics.ts";
import type { DeviceWrite, Sighting } from "./sighting.ts";
import { addressInWords } from "./words.ts";

export class DeviceWords {
  readonly #queues: number;

  constructor(queues: number) {
    this.#queues = queues;
  }

  /** What the device's turn came to; `landed` are its writes that memory has got meanwhile. */
  turn(before: Sighting, after: Sighting, landed: readonly DeviceWrite[]): string {
    const sentOff = after.inFlight.slice(Math.max(0, before.inFlight.length - landed.length));
    const deeds = [
      ...landed.map((write) => `writes ${this.#thing(write)}`.replace("writes the write-back of", "writes back")),
      ...sentOff.map((write) => `sends off ${this.#thing(write)}`),
      ...interruptsInWords(before, after),
    ];
    if (after.framesSent > before.framesSent) deeds.push("sends a frame into the network");
    return deeds.length === 0 ? quietTurn(before, after) : deeds.join("; ");
  }

  /** What the bus did: writes that were on their way reach memory. */
  landing(landed: readonly DeviceWrite[]): string {
    if (landed.length === 0) return "delivers a write that faults";
    return `delivers ${landed.map((write) => this.#thing(write)).join("; ")}`;
  }

  #thing({ purpose, descriptor, queue, address, bytes }: DeviceWrite): string {
    const ofQueue = this.#queues > 1 ? ` of queue ${queue}` : "";
    switch (purpose) {
      case DmaPurpose.rxBuffer:
        return `${bytes.length} bytes into the buffer of descriptor ${descriptor}${ofQueue}, at ${addressInWords(address)}`;
      case DmaPurpose.rxWriteBack:
        return `the write-back of descriptor ${descriptor}${ofQueue}: ${writeBackInWords(bytes)}`;
      case DmaPurpose.txWriteBack:
        return `the write-back of transmit descriptor ${descriptor}${ofQueue}: DD`;
      case DmaPurpose.txHeadWriteBack:
        return `the transmit head${ofQueue}`;
      case DmaPurpose.message:
        return "an interrupt message";
      default:
        return purpose satisfies never;
    }
  }
}

function writeBackInWords(bytes: Uint8Array): string {
  const words = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (bytes.length < DESCRIPTOR_BYTES) return `${bytes.length} bytes of it`;
  const isEnd = (words.getUint32(8, true) & RXD_STAT_EOP) !== 0;
  return `DD${isEnd ? " EOP" : ""}, length ${words.getUint16(12, true)}`;
}

function interruptsInWords(before: Sighting, after: Sighting): string[] {
  const sent = after.statistics.interruptsSent - before.statistics.interruptsSent;
  if (sent === 0) return [];
  const fresh = after.guest.pendingVectors & ~before.guest.pendingVectors;
  const vectors = Array.from({ length: 32 }, (_, vector) => vector).filter((vector) => ((fresh >>> vector) & 1) !== 0);
  if (vectors.length === 0) return ["raises an interrupt that is pending already"];
  return vectors.map((vector) => `raises interrupt ${vector}`);
}

const drops: readonly (readonly [counter: keyof VfStatistics["receive"], sentence: string])[] = [
  ["withoutDescriptors", "throws a frame away, for which no descriptor is posted"],
  ["queueNotReady", "throws a frame away, for its queue is not ready"],
  ["bufferFaults", "may not write a buffer"],
  ["descriptorFaults", "may not read or write a descriptor, and its queue stands still"],
];

/** The turn changed no memory and raised no interrupt. */
function quietTurn(before: Sighting, after: Sighting): string {
  const dropped = drops.find(([counter]) => after.statistics.receive[counter] > before.statistics.receive[counter]);
  if (dropped !== undefined) return dropped[1];
  for (let queue = 0; queue < after.vf.queuePairs; queue++) {
    const wasPending = before.vf.receive.queues[queue]?.causePending === true;
    const isPending = after.vf.receive.queues[queue]?.causePending === true;
    if (wasPending && !isPending) return `sets the interrupt cause of queue ${queue}, which is masked`;
    const head = after.vf.registers["VFTDH"]?.[queue];
    if (head !== before.vf.registers["VFTDH"]?.[queue])
      return `reads transmit descriptors; its transmit head is ${head}`;
  }
  return "works on, and neither memory nor head show it";
}
