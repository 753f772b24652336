// The receive side after the cut is known: heads, frames in progress, dropped rings, the driver's own slots, excused buffers.
import { DESCRIPTOR_BYTES } from "../nic/descriptors.ts";
import { VFRDH } from "../nic/registers.ts";
import { addressFromHalves } from "../base/numbers.ts";
import type { ByteSet } from "./byte-set.ts";
import { postedSlots, type FoundCut } from "./cut.ts";
import type { Examined } from "./evidence.ts";
import type { WritesAfterPause } from "./expected-image.ts";
import { hex8, type Finding } from "./findings.ts";
import { NONE } from "./ledger-record.ts";
import type { PageOverlay } from "./page-overlay.ts";
import { descriptorLength, distance, type ReceiveRing, type Translate } from "./rings.ts";

/** The head must be the first descriptor that the image does not show done. */
export function checkHead(cut: FoundCut, evidence: Examined): Finding[] {
  const { ring, first } = cut;
  const { queue } = ring;
  const head = evidence.vfAtResume.register(VFRDH(queue));
  if (head === cut.cut) return [];
  const place = {
    address: VFRDH(queue),
    lengthBytes: 0,
    isNotMemory: true,
    queue,
    descriptor: cut.cut,
    expectedHex: hex8(cut.cut),
    actualHex: hex8(head),
  };
  const ahead = distance(ring, first, head % ring.length);
  const isAhead =
    head >= ring.length || (ahead > distance(ring, first, cut.cut) && ahead <= distance(ring, first, ring.tail));
  const where = `receive queue ${queue} resumes at descriptor ${head}`;
  if (!isAhead) {
    return [{ hazard: "head-behind", sentence: `${where}, before the first that is not done, ${cut.cut}`, ...place }];
  }
  if (landedAfterStop(cut, evidence)) {
    const sentence = `${where}: the write-back of descriptor ${cut.cut} landed after the device was declared stopped, too late for the image`;
    return [{ hazard: "late-write", sentence, ...place }];
  }
  const sentence = `${where}, and the driver waits for descriptor ${cut.cut} for good: it is not done`;
  return [{ hazard: "head-ahead", sentence, ...place }];
}

function landedAfterStop(cut: FoundCut, { ledger }: Examined): boolean {
  const row = cut.writeBacks.get(cut.cut);
  return row !== undefined && ledger.stoppedAt !== NONE && ledger.firstSequence + row >= ledger.stoppedAt;
}

/** A cut inside a frame is legal only if the frame was cut by the pause itself and the VF knows that it owes the end. */
export function checkFrameInProgress(cut: FoundCut, evidence: Examined): Finding[] {
  const { ring } = cut;
  const { queue } = ring;
  const deviceOwesEnd = evidence.vfAtResume.receive(queue)?.frameInProgress ?? false;
  const place = { address: Math.max(0, ring.slots[cut.cut] ?? 0), lengthBytes: 0, queue, descriptor: cut.cut };
  if (cut.isInsideFrame && !(cut.wasInsideFrameAtPause && deviceOwesEnd)) {
    const why = cut.wasInsideFrameAtPause
      ? "and the VF does not know that it owes the end"
      : "which began after the pause";
    const sentence = `receive queue ${queue}: descriptor ${cut.cut} is not done and lies inside a frame, ${why}`;
    return [{ hazard: "half-frame", sentence, ...place }];
  }
  if (!cut.isInsideFrame && deviceOwesEnd) {
    const sentence = `receive queue ${queue}: the VF owes the end of a frame that does not begin in the ring`;
    return [{ hazard: "phantom-frame", sentence, ...place }];
  }
  return [];
}

/** A dropped ring may show anything but a descriptor that a driver still polling takes for a frame. */
export function checkDroppedRing(ring: ReceiveRing, evidence: Examined): Finding[] {
  const findings: Finding[] = [];
  for (const [slot, address] of ring.slots.entries()) {
    if (address < 0) continue;
    const shown = evidence.destinationMemory.subarray(address, address + DESCRIPTOR_BYTES);
    const length = descriptorLength(shown);
    if (length === 0) continue;
    findings.push({
      hazard: "done-in-dropped-ring",
      sentence: `receive queue ${ring.queue}, descriptor ${slot} shows a frame of ${length} bytes in a ring that was dropped`,
      address,
      lengthBytes: DESCRIPTOR_BYTES,
      queue: ring.queue,
      descriptor: slot,
    });
  }
  return findings;
}

/** Names a slot that was the driver's at P, and that the image shows differently. */
export function nameDriversSlot(cut: FoundCut, slot: number, evidence: Examined, atPause: PageOverlay): Finding {
  const { ring } = cut;
  const { queue } = ring;
  const address = ring.slots[slot] ?? 0;
  const place = { address, lengthBytes: DESCRIPTOR_BYTES, queue, descriptor: slot };
  const wasDone = descriptorLength(atPause.slice(address, DESCRIPTOR_BYTES)) !== 0;
  const isDone = descriptorLength(evidence.destinationMemory.subarray(address, address + DESCRIPTOR_BYTES)) !== 0;
  const head = evidence.vfAtResume.register(VFRDH(queue));
  const isPastIt = distance(ring, ring.tail, slot) < distance(ring, ring.tail, head % ring.length);
  if (wasDone && !isDone && isPastIt) {
    const sentence = `receive queue ${queue}: descriptor ${slot} was done before the pause, the image shows it not done, and the head ${head} is past it`;
    return { hazard: "head-ahead", sentence, ...place };
  }
  const sentence = `receive queue ${queue}: descriptor ${slot}, the driver's at the pause, is not as it was then`;
  return { hazard: "stale-descriptor", sentence, ...place };
}

/** Excuses the buffers of descriptors that are posted and not done in the image: to the byte, no more. */
export function excuseBuffers(
  cut: FoundCut,
  options: { evidence: Examined; writes: WritesAfterPause; translate: Translate; excused: ByteSet },
): void {
  for (const slot of excusedSlots(cut, options.evidence)) {
    const address = cut.ring.slots[slot] ?? NONE;
    if (address < 0) continue;
    const view = new DataView(options.writes.atPause.slice(address, DESCRIPTOR_BYTES).buffer);
    excuseRange(addressFromHalves(view.getUint32(0, true), view.getUint32(4, true)), cut.ring.bufferBytes, options);
  }
}

function excusedSlots(cut: FoundCut, { droppedRings }: Examined): number[] {
  return postedSlots(droppedRings ? { ...cut, cut: cut.first } : cut);
}

/** The device's address space is mapped page by page, so a buffer may lie in several places. */
function excuseRange(
  iova: number,
  lengthBytes: number,
  options: { evidence: Examined; translate: Translate; excused: ByteSet },
): void {
  const { pageBytes } = options.evidence;
  for (let done = 0; done < lengthBytes;) {
    const count = Math.min(lengthBytes - done, pageBytes - ((iova + done) % pageBytes));
    const address = options.translate(iova + done, count);
    if (address >= 0) options.excused.add(address, count);
    done += count;
  }
}

/** Slots that were the driver's at P: from the tail up to the first that was the device's. */
export function driversSlots(cut: FoundCut): number[] {
  const { ring, first } = cut;
  const count = ring.length - distance(ring, first, ring.tail);
  return Array.from({ length: count }, (_, index) => (ring.tail + index) % ring.length);
}
