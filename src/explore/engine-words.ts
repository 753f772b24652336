// What the engine did, in words. What it does in many steps of one kind is told as one.
import type { QueueCut } from "../migration/events.ts";
import { DESCRIPTOR_BYTES } from "../nic/descriptors.ts";
import type { VfState } from "../nic/state.ts";
import type { PageLog } from "../strategy/strategy.ts";
import type { EngineDeed } from "./engine-watch.ts";
import type { MemoryMap } from "./memory-map.ts";
import { numbersDownInWords, numbersInWords, pagesInWords } from "./words.ts";

const logs: Readonly<Record<PageLog, string>> = {
  "cpu-dirty": "the CPU's dirty log",
  "device-dirty": "the device's dirty log",
  released: "the pages that were released",
};

/** A part of a page that was copied, and what the destination had there. */
export interface CopiedPart {
  readonly page: number;
  readonly start: number;
  readonly lengthBytes: number;
  /** The destination had other bytes there. */
  readonly isNews: boolean;
  readonly bytes: Uint8Array;
}

export function deedsInWords(deeds: readonly EngineDeed[], cuts: readonly QueueCut[]): string[] {
  const sentences: string[] = [];
  const given = deeds.flatMap((deed) => (deed.kind === "give" ? [deed.page] : []));
  for (const deed of deeds) {
    if (deed.kind === "fetch") sentences.push(`fetches ${logs[deed.log]}: ${pagesInWords(deed.pages)}`);
    else if (deed.kind === "pause") sentences.push("pauses the vCPUs");
    else if (deed.kind === "stop-device") sentences.push("stops the device");
    else if (deed.kind === "stop-transmit") sentences.push("stops transmit at the end of a frame");
    else if (deed.kind === "save" && !deeds.some(({ kind }) => kind === "pause")) {
      sentences.push(`saves the VF: ${headsInWords(deed.state)}`);
    }
  }
  if (given.length > 0)
    sentences.push(...cuts.map(cutInWords), `sends ${pagesInWords(given)} with the rings like that`);
  return sentences;
}

function headsInWords({ registers, queuePairs }: VfState): string {
  const heads = Array.from({ length: queuePairs }, (_, queue) => {
    const head = `receive head ${registers["VFRDH"]?.[queue] ?? 0}, tail ${registers["VFRDT"]?.[queue] ?? 0}`;
    return queuePairs > 1 ? `queue ${queue} ${head}` : head;
  });
  return heads.join("; ");
}

function cutInWords({ queue, head, carried, turnedBack, headAtPause }: QueueCut): string {
  const figures = [
    `the head was ${headAtPause} at the pause`,
    ...(carried > 0 ? [`${carried} done since come${carried === 1 ? "s" : ""} along`] : []),
    ...(turnedBack > 0 ? [`${turnedBack} done turned back into posted`] : []),
  ];
  return `cuts the ring of queue ${queue} at descriptor ${head} (${figures.join(", ")})`;
}

interface ReadSlot {
  readonly queue: number;
  readonly slot: number;
  lengthShown: number | undefined;
  halves: number;
}

/** Words of rings that were read, in the order of reading: half descriptors, a word each. */
export function readsInWords(reads: readonly { index: number; value: number }[], map: MemoryMap): string {
  const slots: ReadSlot[] = [];
  for (const { index, value } of reads) {
    const address = index * 4;
    const place = map.receiveDescriptorAt(address);
    if (place === undefined) continue;
    let slot = slots.at(-1);
    if (slot?.queue !== place.queue || slot.slot !== place.slot) {
      slot = { ...place, lengthShown: undefined, halves: 0 };
      slots.push(slot);
    }
    slot.halves += 1 / 4;
    if (address % DESCRIPTOR_BYTES === 12) slot.lengthShown = value & 0xffff;
  }
  const queues = [...new Set(slots.map(({ queue }) => queue))];
  if (queues.length === 0) return "reads a ring that is not in memory";
  return `reads ${queues.map((queue) => slotsInWords(slots.filter((slot) => slot.queue === queue))).join("; then ")}`;
}

function slotsInWords(slots: readonly ReadSlot[]): string {
  const [first, ...others] = slots;
  if (first === undefined || others.length === 0) return first === undefined ? "nothing" : halfInWords(first);
  const done = slots.filter(({ lengthShown = 0 }) => lengthShown > 0).map(({ slot }) => slot);
  const shows =
    done.length === 0 ? "none is done" : `done ${numbersInWords(done.toSorted((a, b) => a - b))}, the others not`;
  const way = numbersDownInWords(slots.map(({ slot }) => slot));
  return `descriptors ${way} of queue ${first.queue}, upper half first: ${shows}`;
}

function halfInWords({ slot, queue, lengthShown, halves }: ReadSlot): string {
  const name = `descriptor ${slot} of queue ${queue}`;
  if (lengthShown === undefined) return `the lower half of ${name}`;
  const shows = lengthShown > 0 ? `done, length ${lengthShown}` : "not done";
  return `${halves < 1 ? `the upper half of ${name}` : name}: ${shows}`;
}

/** Parts of pages, one after the other: what is news to the destination in detail, the rest in one go. */
export function copiesInWords(parts: readonly CopiedPart[], map: MemoryMap): string {
  const pages = new Map<number, CopiedPart[]>();
  for (const part of parts) pages.set(part.page, [...(pages.get(part.page) ?? []), part]);
  const old: number[] = [];
  const told: string[] = [];
  for (const [page, ofPage] of pages) {
    if (ofPage.every(({ isNews }) => !isNews) && isWhole(ofPage, map.pageBytes)) old.push(page);
    else told.push(pageInWords(page, ofPage, map));
  }
  if (old.length > 0)
    told.push(
      `${pagesInWords(old.toSorted((a, b) => a - b))} as the destination has ${old.length === 1 ? "it" : "them"}`,
    );
  return `copies ${told.join("; ")}`;
}

const isWhole = (parts: readonly CopiedPart[], pageBytes: number): boolean =>
  parts.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0) === pageBytes;

function pageInWords(page: number, parts: readonly CopiedPart[], map: MemoryMap): string {
  const [first] = parts;
  const start = first?.start ?? 0;
  const end = start + parts.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
  const name = isWhole(parts, map.pageBytes) ? `page ${page}` : `bytes ${start} to ${end - 1} of page ${page}`;
  const bytes = new Uint8Array(end - start);
  for (const part of parts) bytes.set(part.bytes, part.start - start);
  const news = parts.some(({ isNews }) => isNews) ? "" : ", as the destination has it";
  return `${name} (${map.contentInWords(page * map.pageBytes + start, bytes)})${news}`;
}
