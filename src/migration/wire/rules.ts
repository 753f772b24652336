// What must hold between messages: pages inside the offered memory, rounds in order, states whole, counts that agree.
//
// Both ends run the same rules over everything the source sends: the source asserts them before it sends, the
// destination holds the peer to them after it received. Whether a message may come at all is legal.ts's business.
import { unreachable } from "../../base/assert.ts";
import { pagesPayloadBytes, pagesPerFrameMax } from "./frame.ts";
import type { EndOfState, HelloAck, Message, Offer, Outcome, RoundEnd } from "./protocol.ts";

/** A message as far as the rules look at it: page bytes are not needed. */
export type RuledMessage =
  | Exclude<Message, { kind: "pages" }>
  | { readonly kind: "pages"; readonly round: number; readonly pageBytes: number; readonly pages: Uint32Array };

/**
 * How often the pages of memory may go over in one round, all told. A switchover may send a page more than once (with
 * the rings, then because it is mapped); without a bound a hostile source could keep a destination busy clearing
 * memory with very few bytes.
 */
const sendsPerPageMax = 4;

/** Questions in one conversation: answers pile up here when a peer asks without reading. */
const queriesMax = 16;

interface StateProgress {
  totalBytes: number;
  receivedBytes: number;
}

export class StreamRules {
  #offer: Offer | undefined;
  #pageCount = 0;
  #round = 1;
  #roundPages = 0;
  #roundZeroPages = 0;
  #hello: { minVersion: number; maxVersion: number; capabilities: readonly string[] } | undefined;
  #queried: string | undefined;
  #queries = 0;
  readonly #states: Record<"machine-state" | "vf-state", StateProgress> = {
    "machine-state": { totalBytes: 0, receivedBytes: 0 },
    "vf-state": { totalBytes: 0, receivedBytes: 0 },
  };

  /** The longest `pages` payload that the offer allows. */
  get pagesPayloadBytesMax(): number {
    return this.#offer === undefined ? 0 : pagesPayloadBytes(pagesPerFrameMax, this.#offer.pageBytes);
  }

  /** Takes the next message. The sentence says which rule it breaks; undefined when none. */
  violation(message: RuledMessage): string | undefined {
    switch (message.kind) {
      case "hello":
        this.#hello = message;
        return undefined;
      case "hello-ack":
        return this.#helloAckViolation(message);
      case "offer":
        return this.#takeOffer(message);
      case "query-outcome":
        this.#queried = message.migrationId;
        return ++this.#queries > queriesMax ? `more than ${queriesMax} questions` : undefined;
      case "outcome":
        return this.#outcomeViolation(message);
      case "pages":
        return this.#pagesViolation(message.round, message.pageBytes, message.pages);
      case "zero-pages":
        return this.#zeroPagesViolation(message.round, message.ranges);
      case "round-end":
        return this.#roundEndViolation(message);
      case "machine-state":
      case "vf-state":
        return this.#stateViolation(message.kind, message.totalBytes, message.offset, message.bytes.length);
      case "end-of-state":
        return this.#endOfStateViolation(message);
      case "accept":
      case "ready":
      case "go":
      case "running":
      case "goodbye":
      case "abort":
      case "error":
      case "keepalive":
        return undefined;
      default:
        return unreachable(message);
    }
  }

  #helloAckViolation(ack: HelloAck): string | undefined {
    const hello = this.#hello;
    if (hello === undefined || ack.version < hello.minVersion || ack.version > hello.maxVersion) {
      return `protocol version ${ack.version} was chosen and not offered`;
    }
    if (!ack.capabilities.every((name) => hello.capabilities.includes(name))) {
      return "a capability was chosen and not offered";
    }
    return undefined;
  }

  #takeOffer(offer: Offer): undefined {
    this.#offer = offer;
    this.#pageCount = offer.memoryBytes / offer.pageBytes;
    return undefined;
  }

  #outcomeViolation(outcome: Outcome): string | undefined {
    return outcome.migrationId === this.#queried ? undefined : "the outcome is that of another migration";
  }

  #roundViolation(round: number): string | undefined {
    if (round !== this.#round) return `round ${round} while round ${this.#round} is going on`;
    const sent = this.#roundPages + this.#roundZeroPages;
    return sent > sendsPerPageMax * this.#pageCount ? `round ${round} sends memory over and over` : undefined;
  }

  #pagesViolation(round: number, pageBytes: number, pages: Uint32Array): string | undefined {
    if (pageBytes !== this.#offer?.pageBytes) return `pages of ${pageBytes} bytes were not offered`;
    // Pages ascend, so the last one is the largest.
    const last = pages[pages.length - 1] ?? 0;
    if (last >= this.#pageCount) return `page ${last} is outside the memory of ${this.#pageCount} pages`;
    this.#roundPages += pages.length;
    return this.#roundViolation(round);
  }

  #zeroPagesViolation(round: number, ranges: Uint32Array): string | undefined {
    let count = 0;
    for (let i = 1; i < ranges.length; i += 2) count += ranges[i] as number;
    // Ranges ascend, so the last one ends last.
    const end = (ranges[ranges.length - 2] ?? 0) + (ranges[ranges.length - 1] ?? 0);
    if (end > this.#pageCount) return `page ${end - 1} is outside the memory of ${this.#pageCount} pages`;
    this.#roundZeroPages += count;
    return this.#roundViolation(round);
  }

  #roundEndViolation(end: RoundEnd): string | undefined {
    const { round, pages, zeroPages, dirtyAfter } = end;
    if (pages !== this.#roundPages || zeroPages !== this.#roundZeroPages) {
      const came = `${this.#roundPages} pages and ${this.#roundZeroPages} zero pages`;
      return `round ${round} counts ${pages} pages and ${zeroPages} zero pages, but ${came} went over`;
    }
    if (dirtyAfter > this.#pageCount) return `${dirtyAfter} dirty pages in a memory of ${this.#pageCount}`;
    const violation = this.#roundViolation(round);
    this.#round++;
    this.#roundPages = 0;
    this.#roundZeroPages = 0;
    return violation;
  }

  #stateViolation(
    kind: "machine-state" | "vf-state",
    totalBytes: number,
    offset: number,
    length: number,
  ): string | undefined {
    const state = this.#states[kind];
    if (state.receivedBytes > 0 && totalBytes !== state.totalBytes) {
      return `${kind} of ${state.totalBytes} bytes became one of ${totalBytes}`;
    }
    if (offset !== state.receivedBytes) return `${kind} goes on at byte ${offset} after ${state.receivedBytes} bytes`;
    state.totalBytes = totalBytes;
    state.receivedBytes += length;
    return undefined;
  }

  #endOfStateViolation(end: EndOfState): string | undefined {
    const { "machine-state": machine, "vf-state": vf } = this.#states;
    if (machine.receivedBytes === 0) return "the machine's state is missing";
    if (machine.receivedBytes !== machine.totalBytes) return "the machine's state is not complete";
    if (vf.receivedBytes !== vf.totalBytes) return "the VF's state is not complete";
    if (end.machineStateBytes !== machine.totalBytes || end.vfStateBytes !== vf.totalBytes) {
      return "the sizes of the states at the end are not those that went over";
    }
    if (this.#roundPages + this.#roundZeroPages > 0) return "the last round was not ended";
    return undefined;
  }
}
