// The source VM as the engine gets to see it under the explorer: every look is a question, every deed an effect.
import { assert } from "../base/assert.ts";
import type { GuestMemory } from "../memory/guest-memory.ts";
import { PageSet } from "../memory/page-set.ts";
import type { PageGeometry } from "../memory/geometry.ts";
import type { MigratableVm, RingTracker } from "../migration/parts.ts";
import type { RingView } from "../nic/datapath-ports.ts";
import type { VfState } from "../nic/state.ts";
import type { PageLog } from "../strategy/strategy.ts";
import type { PartTarget } from "./engine-run.ts";
import type { Intervention } from "./steps.ts";

/** What the engine asks of a source. An answer is one number: a value, or the number of a value. */
export type Query =
  /** The little-endian word at four times the index. */
  | { readonly kind: "word"; readonly index: number }
  /** The number of a page's content. */
  | { readonly kind: "page"; readonly page: number }
  /** A log, which is empty afterwards: the number of a set of pages. */
  | { readonly kind: "log"; readonly log: PageLog }
  /** Numbers of sets of pages. */
  | { readonly kind: "mapped" }
  | { readonly kind: "ring-pages" }
  /** What was posted: the number of its four words, or -1 if nothing was. */
  | { readonly kind: "posting"; readonly queue: number; readonly slot: number }
  | { readonly kind: "ring-view"; readonly queue: number }
  /** Which of these pages is copied next: not the source's to say, but whoever decides what happens when. */
  | { readonly kind: "choose"; readonly pages: readonly number[] }
  /** A number or flag in the VF's state as it was saved for the n-th time. */
  | { readonly kind: "saved"; readonly save: number; readonly path: readonly string[] };

/** What the engine does besides asking. */
export type Effect =
  | { readonly kind: "intervene"; readonly what: Intervention }
  /** The image gets so many bytes of a page as the source has them now. */
  | { readonly kind: "copy"; readonly page: number; readonly start: number; readonly lengthBytes: number }
  /** The image gets a page with these bytes. */
  | { readonly kind: "give"; readonly page: number; readonly bytes: Uint8Array };

/** Answers in numbers, and what they stand for. */
export interface Respondent {
  ask(question: Query): number;
  effect(effect: Effect): void;
  /** What numbers stand for. */
  content(number: number): Uint8Array;
  pages(number: number): readonly number[];
  posting(number: number): Uint32Array;
  ringView(number: number): RingView;
}

export interface EngineView {
  readonly vm: MigratableVm;
  readonly target: PartTarget;
  /** The number that a state handed to the engine was saved under. */
  saveOf(state: VfState): number;
}

export function engineView(geometry: PageGeometry, queuePairs: number, respondent: Respondent): EngineView {
  const saves = new Map<VfState, number>();
  const save = (): VfState => {
    respondent.effect({ kind: "intervene", what: "save" });
    const number = saves.size;
    const state = savedState(number, respondent);
    saves.set(state, number);
    return state;
  };
  const intervene = (what: Intervention): void => respondent.effect({ kind: "intervene", what });
  const never = (): never => assert(false, "the explorer's engine does not come back to its source") as never;
  const vm: MigratableVm = {
    machine: {
      kind: "model",
      memory: watchedMemory(geometry, respondent),
      cpuDirtyLog: {
        method: "model",
        start: () => {},
        stop: () => {},
        fetchAndClear: fetch("cpu-dirty"),
        putBack: never,
      },
      pause: () => {
        intervene("pause");
        return Promise.resolve();
      },
      resume: never,
      saveState: never,
    },
    vf: {
      queuePairs,
      rxRing: (queue) => respondent.ringView(respondent.ask({ kind: "ring-view", queue })),
      save,
      stop: () => intervene("stop-device"),
      stopTransmit: () => intervene("stop-transmit"),
      start: never,
      raiseAllEnabled: never,
    },
    tracker: tracker(),
    deviceLog: { fetchAndClear: fetch("device-dirty"), putBack: never },
    translate: (iova) => (iova < geometry.count * geometry.sizeBytes ? iova : -1),
  };
  const target: PartTarget = {
    memoryPart: (page, start, lengthBytes) => respondent.effect({ kind: "copy", page, start, lengthBytes }),
    givenPage: (page, bytes) => respondent.effect({ kind: "give", page, bytes: bytes.slice() }),
  };
  return { vm, target, saveOf: (state) => saves.get(state) ?? -1 };

  function fetch(log: PageLog): (into: PageSet) => void {
    return (into) => addAll(into, respondent.ask({ kind: "log", log }));
  }

  function addAll(into: PageSet, number: number): void {
    for (const page of respondent.pages(number)) into.add(page);
  }

  function tracker(): RingTracker {
    return {
      method: "descriptor-shadow",
      mappedInto: (into) => addAll(into, respondent.ask({ kind: "mapped" })),
      fetchReleased: fetch("released"),
      putBackReleased: never,
      ringPagesInto: (into) => addAll(into, respondent.ask({ kind: "ring-pages" })),
      postedWords: (queue, slot, words) => {
        const number = respondent.ask({ kind: "posting", queue, slot });
        if (number >= 0) words.set(respondent.posting(number));
        return number >= 0;
      },
    };
  }
}

/** Guest memory of which every word and every page that is read becomes a question. */
function watchedMemory(pages: PageGeometry, respondent: Respondent): GuestMemory {
  const sizeBytes = pages.count * pages.sizeBytes;
  const page = (start: number, end: number): Uint8Array => {
    assert(start % pages.sizeBytes === 0 && end === start + pages.sizeBytes, "the engine reads whole pages");
    return respondent.content(respondent.ask({ kind: "page", page: start / pages.sizeBytes })).slice();
  };
  const bytes = new Proxy(new Uint8Array(0), {
    get: (_, name) => {
      assert(name === "slice" || name === "subarray", `the engine reads bytes by ${String(name)}`);
      return page;
    },
  });
  const wordInOrder = (index: number): number => respondent.ask({ kind: "word", index });
  const words = (): never => assert(false, "the engine reads words in order") as never;
  return { sizeBytes, pages, bytes: () => bytes, words, wordInOrder, deviceWrote: () => {} };
}

/** A saved state that is not looked into until somebody does: what the engine does not look at cannot matter to it. */
function savedState(save: number, respondent: Respondent): VfState {
  const at = (path: readonly string[]): object =>
    new Proxy(
      {},
      {
        get: (_, name) => {
          const longer = [...path, String(name)];
          const isLeaf = longer.length === (longer[0] === "registers" ? 3 : 4);
          if (!isLeaf) return at(longer);
          const answer = respondent.ask({ kind: "saved", save, path: longer });
          return longer[0] === "registers" ? answer : answer !== 0;
        },
      },
    );
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- stands for the state, field by field, as asked for
  return at([]) as VfState;
}
