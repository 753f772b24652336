// What the device did, in words: from its writes, and from what is different about the source afterwards.
import { DmaPurpose } from "../iommu/dma-port.ts";
import { DESCRIPTOR_BYTES, RXD_STAT_EOP } from "../nic/descriptors.ts";
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
      ...landed.map((write) => `writes ${this.#write(write)}`),
      ...sentOff.map((write) => `sends off ${this.#write(write)}`),
      ...interruptsInWords(before, after),
    ];
    if (after.framesSent > before.framesSent) deeds.push("sends a frame into the network");
    return deeds.length === 0 ? quietTurn(before, after) : deeds.join("; ");
  }

  /** Writes that were on their way. */
  landing(landed: readonly DeviceWrite[]): string {
    return landed.length === 0 ? "a write faults" : landed.map((write) => `${this.#write(write)} lands`).join("; ");
  }

  /** A write as a thing: "60 bytes into the buffer of descriptor 4, at 0x500". */
  #write({ purpose, descriptor, queue, address, bytes }: DeviceWrite): string {
    const ofQueue = this.#queues > 1 ? ` of queue ${queue}` : "";
    switch (purpose) {
      case DmaPurpose.rxBuffer:
        return `${bytes.length} bytes into the buffer of descriptor ${descriptor}${ofQueue}, at ${addressInWords(address)}`;
      case DmaPurpose.rxWriteBack:
        return `descriptor ${descriptor}${ofQueue} back: ${writeBackInWords(bytes)}`;
      case DmaPurpose.txWriteBack:
        return `transmit descriptor ${descriptor}${ofQueue} back: DD`;
      case DmaPurpose.txHeadWriteBack:
        return `the transmit head${ofQueue} back`;
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

/** The turn changed no memory and raised no interrupt. */
function quietTurn(
  { statistics: before, vf: vfBefore }: Sighting,
  { statistics: after, vf: vfAfter }: Sighting,
): string {
  const causeWas = vfBefore.receive.queues.findIndex(
    ({ causePending }, queue) => causePending && vfAfter.receive.queues[queue]?.causePending === false,
  );
  if (causeWas >= 0) return `sets the interrupt cause of queue ${causeWas}, which is masked`;
  const dropped = after.framesHeld < before.framesHeld;
  if (dropped) return "takes a frame out of its packet buffer";
  return "works on, without a trace in memory";
}
