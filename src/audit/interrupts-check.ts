// Point 7: an image with done descriptors needs an interrupt, or the driver never looks.
import { DESCRIPTOR_BYTES } from "../nic/descriptors.ts";
import { VTEICR, VTIVAR, VTIVAR_VALID, VTIVAR_VECTOR_MASK } from "../nic/registers.ts";
import type { FoundCut } from "./cut.ts";
import type { Examined } from "./evidence.ts";
import type { Finding } from "./findings.ts";
import { driversSlots } from "./receive.ts";
import { descriptorLength, takenSlots } from "./rings.ts";
import type { FoundTransmitCut } from "./transmit.ts";

/** Two queues share a VTIVAR: byte 0 for Rx 2n, 1 for Tx 2n, 2 for Rx 2n+1, 3 for Tx 2n+1. */
function vectorEntry(evidence: Examined, queue: number, isTransmit: boolean): number {
  const shift = 16 * (queue & 1) + (isTransmit ? 8 : 0);
  return (evidence.vfAtResume.register(VTIVAR(queue >>> 1)) >>> shift) & 0xff;
}

/** The queue has a vector, and nothing is pending for it. */
function staysSilent(evidence: Examined, queue: number, isTransmit: boolean): boolean {
  const entry = vectorEntry(evidence, queue, isTransmit);
  if ((entry & VTIVAR_VALID) === 0) return false;
  const state = isTransmit ? evidence.vfAtResume.transmit(queue) : evidence.vfAtResume.receive(queue);
  if (state?.causePending === true) return false;
  const vector = entry & VTIVAR_VECTOR_MASK;
  if (evidence.vfAtResume.isMessagePending(vector)) return false;
  return (evidence.vfAtResume.register(VTEICR) & (1 << vector)) === 0;
}

/** A done descriptor that the driver may not have looked at: where the driver is unknown, any but the one at the tail. */
function unseenDone(cut: FoundCut, evidence: Examined): number | undefined {
  const { ring } = cut;
  if (cut.carriedRows.length > 0) return cut.first;
  const taken = takenSlots(ring, evidence.driver?.receive[ring.queue]?.nextToClean);
  const unseen = driversSlots(cut).slice(taken);
  return unseen.find((slot) => {
    const address = ring.slots[slot] ?? -1;
    if (address < 0) return false;
    return descriptorLength(evidence.destinationMemory.subarray(address, address + DESCRIPTOR_BYTES)) !== 0;
  });
}

export function checkInterrupts(
  receive: readonly FoundCut[],
  transmit: readonly FoundTransmitCut[],
  evidence: Examined,
): Finding[] {
  if (evidence.raisedEveryVector) return [];
  const findings: Finding[] = [];
  for (const cut of receive) {
    const { queue, slots } = cut.ring;
    const slot = unseenDone(cut, evidence);
    if (slot === undefined || !staysSilent(evidence, queue, false)) continue;
    const sentence = `receive queue ${queue} has descriptor ${slot} done, its vector was not raised and nothing is pending`;
    const address = Math.max(0, slots[slot] ?? 0);
    findings.push({ hazard: "lost-interrupt", sentence, address, lengthBytes: 0, queue, descriptor: slot });
  }
  for (const cut of transmit) {
    const { queue } = cut.ring;
    const slot = cut.carriedSlots[0];
    if (slot === undefined || !staysSilent(evidence, queue, true)) continue;
    const sentence = `transmit queue ${queue} completed descriptor ${slot} after the pause, its vector was not raised and nothing is pending`;
    const address = Math.max(0, cut.ring.slots[slot] ?? 0);
    findings.push({ hazard: "lost-interrupt", sentence, address, lengthBytes: 0, queue, descriptor: slot });
  }
  return findings;
}
