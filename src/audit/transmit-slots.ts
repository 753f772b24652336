// Names a transmit descriptor that the destination's image shows differently than it must.
import { DESCRIPTOR_BYTES, TXD_STAT_DD } from "../nic/descriptors.ts";
import type { Finding } from "./findings.ts";
import type { PageOverlay } from "./page-overlay.ts";
import { distance } from "./rings.ts";
import type { FoundTransmitCut } from "./transmit.ts";

export function nameTransmitSlot(
  cut: FoundTransmitCut,
  slot: number,
  expected: PageOverlay,
  actual: Uint8Array,
): Finding {
  const { ring, summary, owed } = cut;
  const { queue } = ring;
  const address = ring.slots[slot] ?? 0;
  const place = { address, lengthBytes: DESCRIPTOR_BYTES, queue, descriptor: slot };
  const isDone = ((actual[address + DESCRIPTOR_BYTES - 4] ?? 0) & TXD_STAT_DD) !== 0;
  const wasDone = (expected.slice(address + DESCRIPTOR_BYTES - 4, 1)[0] ?? 0) & TXD_STAT_DD;
  const fetched = distance(ring, ring.head, summary.headAtResume % ring.length);
  const isBelow =
    distance(ring, ring.head, slot) < fetched ||
    distance(ring, ring.head, slot) >= distance(ring, ring.head, ring.tail);
  const where = `transmit queue ${queue}, descriptor ${slot}`;
  if (owed.has(slot)) {
    return {
      hazard: "repeated-completion",
      sentence: `${where} is completed in the image, and its completion is owed again`,
      ...place,
    };
  }
  if (!isBelow && wasDone === 0 && isDone) {
    const sentence = `${where} is completed in the image, and the head ${summary.headAtResume} lies before it`;
    return { hazard: "tx-head-behind", sentence, ...place };
  }
  if (isBelow && wasDone !== 0 && !isDone) {
    return {
      hazard: "lost-completion",
      sentence: `${where} was fetched, and the image lacks its completion`,
      ...place,
    };
  }
  if (isBelow) return { hazard: "stale-descriptor", sentence: `${where} is not as it was at the pause`, ...place };
  return {
    hazard: "tx-descriptor-overwritten",
    sentence: `${where} is yet to be fetched, and is not as the driver left it`,
    ...place,
  };
}
