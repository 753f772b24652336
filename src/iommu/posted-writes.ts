// PCIe posted writes in flight: what the device has sent is not yet what memory shows.
import { assert } from "../base/assert.ts";
import { DmaStatus, tagRelaxedOrdering, type DmaPort } from "./dma-port.ts";

/** A write on its way. */
export interface PostedWrite {
  readonly iova: number;
  readonly lengthBytes: number;
  readonly tag: number;
  /** What is written: one of the two. */
  readonly bytes: Uint8Array | undefined;
  readonly words: Uint32Array | undefined;
}

/**
 * Says which of the writes in flight lands next, oldest first in the list: 0, or the index of one that has the
 * relaxed-ordering bit (PCI Express Base Specification, section 2.4.1: a posted request must not pass another posted
 * request, unless the *passing* one has RO set).
 */
export type LandingChooser = (inFlight: readonly PostedWrite[]) => number;

const IN_FLIGHT_MAX_DEFAULT = 256;
const inOrder: LandingChooser = () => 0;

/**
 * A DMA port between a device and its real one. A write succeeds at once, since a posted request has no completion: if
 * it then faults, the domain's log has it and the device never hears of it. Writes land one per `step`. A read pushes
 * all earlier writes out before it is answered, which is why a read is the way to drain a stopped device.
 *
 * For the hazards `late-write` and `relaxed-ordering`: it is a model of the bus, to be put in by whoever explores.
 */
export class PostedWrites implements DmaPort {
  readonly #port: DmaPort;
  readonly #choose: LandingChooser;
  readonly #inFlightMax: number;
  readonly #flights: PostedWrite[] = [];
  #isHeld = false;

  constructor(port: DmaPort, options: { choose?: LandingChooser; inFlightMax?: number } = {}) {
    this.#port = port;
    this.#choose = options.choose ?? inOrder;
    this.#inFlightMax = options.inFlightMax ?? IN_FLIGHT_MAX_DEFAULT;
  }

  /** Writes in flight. */
  get pending(): number {
    return this.#flights.length;
  }

  /** Lets one write land. False when none is in flight. */
  step(): boolean {
    if (this.#flights.length === 0) return false;
    this.#land(this.#choose(this.#flights));
    return true;
  }

  /** Lets every write land, oldest first. */
  flush(): void {
    while (!this.#isHeld && this.#flights.length > 0) this.#land(0);
  }

  /** Runs `look` in a world that stands still: its reads push nothing out. For whoever looks in from outside. */
  held<Result>(look: () => Result): Result {
    this.#isHeld = true;
    try {
      return look();
    } finally {
      this.#isHeld = false;
    }
  }

  /** The writes in flight, oldest first. */
  get inFlight(): readonly PostedWrite[] {
    return this.#flights;
  }

  readWords(iova: number, target: Uint32Array, count: number): DmaStatus {
    this.flush();
    return this.#port.readWords(iova, target, count);
  }

  readBytes(iova: number, target: Uint8Array, targetOffset: number, length: number): DmaStatus {
    this.flush();
    return this.#port.readBytes(iova, target, targetOffset, length);
  }

  writeWords(iova: number, source: Uint32Array, count: number, tag: number): DmaStatus {
    return this.#post({ iova, lengthBytes: count * 4, tag, bytes: undefined, words: source.slice(0, count) });
  }

  writeBytes(iova: number, source: Uint8Array, sourceOffset: number, length: number, tag: number): DmaStatus {
    const bytes = source.slice(sourceOffset, sourceOffset + length);
    return this.#post({ iova, lengthBytes: length, tag, bytes, words: undefined });
  }

  #post(flight: PostedWrite): DmaStatus {
    if (this.#flights.length >= this.#inFlightMax) this.#land(0);
    this.#flights.push(flight);
    return DmaStatus.ok;
  }

  #land(index: number): void {
    const flight = this.#flights[index];
    assert(flight !== undefined, `there is no write ${index} in flight`);
    assert(index === 0 || tagRelaxedOrdering(flight.tag), "a write without relaxed ordering may not overtake another");
    this.#flights.splice(index, 1);
    const { iova, lengthBytes, tag, bytes, words } = flight;
    if (words !== undefined) this.#port.writeWords(iova, words, lengthBytes / 4, tag);
    else if (bytes !== undefined) this.#port.writeBytes(iova, bytes, 0, lengthBytes, tag);
  }
}
