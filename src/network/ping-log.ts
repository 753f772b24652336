// What became of each ping: when it was sent, when it was answered, and whether the answer was right.
import { assert } from "../base/assert.ts";

/** Which pings a report is about, by the time they were sent, and the moment whose first answer is wanted. */
export interface PingWindow {
  readonly sentFromMs?: number;
  readonly sentBeforeMs?: number;
  readonly answeredAfterMs?: number;
}

export interface AnsweredPing {
  /** Number of the ping, from 0. */
  readonly sequence: number;
  readonly sentAtMs: number;
  readonly answeredAtMs: number;
}

/** All times are on the pinger's clock, in milliseconds. sent = answered + corrupt + lost + pending. */
export interface PingReport {
  readonly sent: number;
  /** Answered with exactly the bytes that were sent. */
  readonly answered: number;
  /** Answered with other bytes or a wrong checksum. */
  readonly corrupt: number;
  /** Unanswered for longer than the time-out. */
  readonly lost: number;
  /** Unanswered, but not for long. */
  readonly pending: number;
  /** Answers beyond the first; never more than a network may duplicate, which this one does not. */
  readonly duplicates: number;
  /** Time slots for which no ping was sent since the sender came late. */
  readonly skipped: number;
  readonly lostSequences: readonly number[];
  readonly corruptSequences: readonly number[];
  /** True when the lists above were cut off. */
  readonly listsCut: boolean;
  /** Longest time without a right answer, from the first on; an unanswered end counts up to the last ping sent. */
  readonly longestGapMs: number;
  readonly roundTripMs: { readonly median: number; readonly max: number } | null;
  /** The first right answer that came after `answeredAfterMs`. */
  readonly firstAnswerAfter: AnsweredPing | null;
}

const Outcome = { none: 0, answered: 1, corrupt: 2 } as const;
const LIST_MAX = 1000;

export class PingLog {
  sent = 0;
  skipped = 0;
  #sentAtMs = new Float64Array(64);
  #answeredAtMs = new Float64Array(64);
  #outcomes = new Uint8Array(64);
  #duplicates = new Map<number, number>();

  /** Notes a request and gives its number. */
  send(nowMs: number): number {
    const index = this.sent++;
    if (index >= this.#outcomes.length) this.#grow();
    this.#sentAtMs[index] = nowMs;
    return index;
  }

  reply(index: number, nowMs: number, right: boolean): void {
    assert(index >= 0 && index < this.sent, `ping ${index} was never sent`);
    if (this.#outcomes[index] !== Outcome.none) {
      this.#duplicates.set(index, (this.#duplicates.get(index) ?? 0) + 1);
      return;
    }
    this.#outcomes[index] = right ? Outcome.answered : Outcome.corrupt;
    this.#answeredAtMs[index] = nowMs;
  }

  /** Unanswered pings sent before `lostBeforeMs` are lost, later ones pending. */
  report(lostBeforeMs: number, window: PingWindow = {}): PingReport {
    const counts = { sent: 0, answered: 0, corrupt: 0, lost: 0, pending: 0, duplicates: 0 };
    const lostSequences: number[] = [];
    const corruptSequences: number[] = [];
    const answers: AnsweredPing[] = [];
    let lastUnansweredMs = -Infinity;
    for (let sequence = 0; sequence < this.sent; sequence++) {
      const sentAtMs = this.#sentAtMs[sequence] ?? 0;
      if (sentAtMs < (window.sentFromMs ?? -Infinity) || sentAtMs >= (window.sentBeforeMs ?? Infinity)) continue;
      counts.sent++;
      counts.duplicates += this.#duplicates.get(sequence) ?? 0;
      const outcome = this.#outcomes[sequence];
      if (outcome === Outcome.answered) {
        answers.push({ sequence, sentAtMs, answeredAtMs: this.#answeredAtMs[sequence] ?? 0 });
        continue;
      }
      lastUnansweredMs = sentAtMs;
      if (outcome === Outcome.corrupt) corruptSequences.push(sequence);
      else if (sentAtMs < lostBeforeMs) lostSequences.push(sequence);
      else counts.pending++;
    }
    counts.answered = answers.length;
    counts.corrupt = corruptSequences.length;
    counts.lost = lostSequences.length;
    answers.sort((a, b) => a.answeredAtMs - b.answeredAtMs);
    const afterMs = window.answeredAfterMs ?? Infinity;
    return {
      ...counts,
      skipped: this.skipped,
      lostSequences: lostSequences.slice(0, LIST_MAX),
      corruptSequences: corruptSequences.slice(0, LIST_MAX),
      listsCut: Math.max(lostSequences.length, corruptSequences.length) > LIST_MAX,
      longestGapMs: longestGapMs(answers, lastUnansweredMs),
      roundTripMs: roundTrips(answers),
      firstAnswerAfter: answers.find((answer) => answer.answeredAtMs > afterMs) ?? null,
    };
  }

  #grow(): void {
    const capacity = this.#outcomes.length * 2;
    const sentAtMs = new Float64Array(capacity);
    sentAtMs.set(this.#sentAtMs);
    this.#sentAtMs = sentAtMs;
    const answeredAtMs = new Float64Array(capacity);
    answeredAtMs.set(this.#answeredAtMs);
    this.#answeredAtMs = answeredAtMs;
    const outcomes = new Uint8Array(capacity);
    outcomes.set(this.#outcomes);
    this.#outcomes = outcomes;
  }
}

function longestGapMs(answers: readonly AnsweredPing[], lastUnansweredMs: number): number {
  let previousMs = answers[0]?.answeredAtMs;
  if (previousMs === undefined) return 0;
  let longest = 0;
  for (const { answeredAtMs } of answers) {
    longest = Math.max(longest, answeredAtMs - previousMs);
    previousMs = answeredAtMs;
  }
  return Math.max(longest, lastUnansweredMs - previousMs);
}

function roundTrips(answers: readonly AnsweredPing[]): { median: number; max: number } | null {
  const times = Float64Array.from(answers, (answer) => answer.answeredAtMs - answer.sentAtMs).sort();
  if (times.length === 0) return null;
  return { median: times[times.length >>> 1] ?? 0, max: times[times.length - 1] ?? 0 };
}
