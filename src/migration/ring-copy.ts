// Reads the receive rings for `cut-rings` and `drop-rings`, and composes the ring pages that the destination gets.
import type { VfState } from "../nic/state.ts";
import { cutRing } from "./cut.ts";
import type { QueueCut } from "./events.ts";
import type { MigratableVm } from "./parts.ts";

const DESCRIPTOR_BYTES = 16;
const WORDS = 4;

interface CopiedRing {
  readonly queue: number;
  readonly base: number;
  readonly words: Uint32Array;
  readonly headAtPause: number;
  readonly tail: number;
  readonly frameInProgress: boolean;
}

/**
 * The device writes back upwards from its head to the tail; the copy goes downwards from the slot before the tail, all
 * the way round the ring, and takes the upper half of each descriptor before the lower, and of a half the last word
 * first. So whatever the copy shows of a slot is at least as new as what it shows of every slot after it, and there is no
 * hole in it.
 *
 * Upper before lower is what the cut needs (cut.ts says why). The order of the slots it does not: knowing what was posted,
 * it mends a hole as it mends a half frame. Whoever copies rings without that knowledge needs both (cut.test.ts).
 */
export class RingCopy {
  readonly #vm: MigratableVm;
  #rings: CopiedRing[] = [];
  #ring = 0;
  /** Half descriptors read of the current ring. */
  #halves = 0;

  constructor(vm: MigratableVm) {
    this.#vm = vm;
  }

  /**
   * Notes where the rings are and how far the device was. `state` is of a time when the CPUs had paused. A ring whose
   * registers are nonsense (the guest's mistake) is left alone: the device does not move in it.
   */
  begin(state: VfState): void {
    this.#rings = [];
    this.#ring = 0;
    this.#halves = 0;
    for (let queue = 0; queue < this.#vm.vf.queuePairs; queue++) {
      const { enabled, descriptors, base } = this.#vm.vf.rxRing(queue);
      const headAtPause = state.registers["VFRDH"]?.[queue] ?? 0;
      const tail = state.registers["VFRDT"]?.[queue] ?? 0;
      if (!enabled || headAtPause >= descriptors || tail >= descriptors) continue;
      const words = new Uint32Array(descriptors * WORDS);
      const frameInProgress = state.receive.queues[queue]?.frameInProgress ?? false;
      this.#rings.push({ queue, base, words, headAtPause, tail, frameInProgress });
    }
  }

  /** Reads half a descriptor. False when every ring was read. */
  step(): boolean {
    const ring = this.#rings[this.#ring];
    if (ring === undefined) return false;
    const slots = ring.words.length / WORDS;
    const back = this.#halves >>> 1;
    const slot = (((ring.tail - 1 - back) % slots) + slots) % slots;
    const upper = (this.#halves & 1) === 0;
    this.#readHalf(ring, slot, upper);
    this.#halves++;
    if (this.#halves === slots * 2) {
      this.#ring++;
      this.#halves = 0;
    }
    return true;
  }

  #readHalf(ring: CopiedRing, slot: number, upper: boolean): void {
    const word = slot * WORDS + (upper ? 2 : 0);
    const address = this.#memoryAddress(ring.base + word * 4, DESCRIPTOR_BYTES / 2);
    if (address < 0) return;
    // Last word first, and no later read before it: memory may be written by a device in another thread meanwhile.
    const { memory } = this.#vm.machine;
    ring.words[word + 1] = memory.wordInOrder((address >>> 2) + 1);
    ring.words[word] = memory.wordInOrder(address >>> 2);
  }

  /** Where the guest put the descriptor, or -1 if that is not in its memory. */
  #memoryAddress(iova: number, lengthBytes: number): number {
    const address = this.#vm.translate(iova);
    return address + lengthBytes <= this.#vm.machine.memory.sizeBytes ? address : -1;
  }

  /** After `step` returned false: cuts every ring that was read. */
  cut(): QueueCut[] {
    return this.#rings.map((ring) => {
      const cut = cutRing({ ...ring, frameInProgressAtPause: ring.frameInProgress }, this.#vm.tracker);
      return { queue: ring.queue, headAtPause: ring.headAtPause, tail: ring.tail, ...cut };
    });
  }

  /** Instead of reading: rings in which no descriptor is done, by DD (DPDK) or by length (ixgbevf). */
  drop(): QueueCut[] {
    return this.#rings.map((ring) => {
      ring.words.fill(0);
      const { queue, headAtPause, tail } = ring;
      return { queue, headAtPause, tail, head: 0, frameInProgress: false, carried: 0, turnedBack: 0 };
    });
  }

  /** Visits every page that holds ring bytes, composed of memory as it is and the ring as cut. */
  forEachPage(visit: (page: number, bytes: Uint8Array) => void): void {
    const { memory } = this.#vm.machine;
    const pageBytes = memory.pages.sizeBytes;
    const composed = new Map<number, Uint8Array>();
    for (const ring of this.#rings) {
      const bytes = new Uint8Array(ring.words.buffer);
      for (let offset = 0; offset < bytes.length; offset += DESCRIPTOR_BYTES) {
        const address = this.#memoryAddress(ring.base + offset, DESCRIPTOR_BYTES);
        if (address < 0) continue;
        const page = Math.floor(address / pageBytes);
        let content = composed.get(page);
        if (content === undefined) {
          content = memory.bytes().slice(page * pageBytes, (page + 1) * pageBytes);
          composed.set(page, content);
        }
        content.set(bytes.subarray(offset, offset + DESCRIPTOR_BYTES), address % pageBytes);
      }
    }
    for (const [page, content] of composed) visit(page, content);
  }
}
