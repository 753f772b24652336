// What lies where in a model guest's memory, in words: rings by descriptor, buffers by the descriptor they are posted in.
import type { Layout } from "../machine/model/layout.ts";
import { RING_AREAS } from "../machine/model/layout.ts";
import type { ModelState } from "../machine/model/state.ts";
import { DESCRIPTOR_BYTES } from "../nic/descriptors.ts";
import { listInWords, numbersInWords } from "./words.ts";

const LENGTH_OFFSET = 12;

export class MemoryMap {
  readonly pageBytes: number;
  readonly #layout: Layout;
  readonly #guest: ModelState;

  constructor(layout: Layout, guest: ModelState) {
    this.pageBytes = layout.pages.sizeBytes;
    this.#layout = layout;
    this.#guest = guest;
  }

  /** The descriptor of a receive ring that an address lies in. */
  receiveDescriptorAt(address: number): { queue: number; slot: number } | undefined {
    const { queuePairs, receiveDescriptors } = this.#layout;
    const { ringArea } = this.#guest.driver;
    for (let queue = 0; queue < queuePairs; queue++) {
      const slot = Math.floor((address - this.#layout.receiveRing(ringArea, queue)) / DESCRIPTOR_BYTES);
      if (slot >= 0 && slot < receiveDescriptors) return { queue, slot };
    }
    return undefined;
  }

  /** What these bytes from an address on are. They lie in one page. */
  contentInWords(address: number, bytes: Uint8Array): string {
    const page = Math.floor(address / this.pageBytes);
    if (address < this.#layout.ringsEnd && address + bytes.length > this.#layout.ringsStart) {
      return this.#ringsInWords(address, bytes);
    }
    if (page >= this.#layout.poolFirst) return this.#poolPageInWords(page);
    return this.#layout.descriptorCopy(0) < this.#layout.applicationStart && address < this.#layout.applicationStart
      ? "the driver's copies of descriptors"
      : "the application's memory";
  }

  #ringsInWords(address: number, bytes: Uint8Array): string {
    const places = this.#descriptorsIn(address, bytes);
    const [first] = places;
    if (first === undefined) return this.#isOfTransmit(address) ? "transmit ring" : "a ring not in use";
    const slots = (shows: "done" | "not done" | "half"): number[] =>
      places.filter((place) => place.shows === shows).map(({ slot }) => slot);
    const shows = [
      ...(["done", "not done"] as const).map((state) => [state, slots(state)] as const),
      ["the lower half of", slots("half")] as const,
    ].filter(([, which]) => which.length > 0);
    const queue = this.#layout.queuePairs > 1 ? ` of queue ${first.queue}` : "";
    return `receive ring${queue}: ${shows.map(([state, which]) => `${state} ${numbersInWords(which)}`).join(", ")}`;
  }

  /** Receive descriptors of which there is a part in these bytes, and what their lengths show, if they are in it. */
  #descriptorsIn(
    address: number,
    bytes: Uint8Array,
  ): { queue: number; slot: number; shows: "done" | "not done" | "half" }[] {
    const words = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const found: { queue: number; slot: number; shows: "done" | "not done" | "half" }[] = [];
    const first = address - (address % DESCRIPTOR_BYTES);
    for (let at = first; at < address + bytes.length; at += DESCRIPTOR_BYTES) {
      const place = this.receiveDescriptorAt(at);
      if (place === undefined) continue;
      const length = at + LENGTH_OFFSET - address;
      const isIn = length >= 0 && length + 2 <= bytes.length;
      found.push({ ...place, shows: !isIn ? "half" : words.getUint16(length, true) > 0 ? "done" : "not done" });
    }
    return found;
  }

  #isOfTransmit(address: number): boolean {
    const { ringArea } = this.#guest.driver;
    const { queuePairs } = this.#layout;
    const end = ringArea + 1 < RING_AREAS ? this.#layout.receiveRing(ringArea + 1, 0) : this.#layout.ringsEnd;
    return queuePairs > 0 && address >= this.#layout.transmitRing(ringArea, 0) && address < end;
  }

  #poolPageInWords(page: number): string {
    const { driver, owners } = this.#guest;
    const posted = driver.receive.flatMap(({ pages }, queue) =>
      pages.flatMap((each, slot) =>
        each === page ? [this.#layout.queuePairs > 1 ? `${slot} of queue ${queue}` : `${slot}`] : [],
      ),
    );
    if (posted.length > 0) return `buffer of descriptor ${listInWords(posted)}`;
    return (owners[page] ?? 0) > 0 ? "a page that the guest's stack holds" : "a free page";
  }
}
