// One search of the common model by Underway, in a process of its own: prints what it found as a line of JSON.
//
//   bin/underway-node bench/explore/ours.ts '{"order":"rings first","symmetry":false,"partialOrder":false}'
import { Search } from "../../src/explore/search.ts";
import type { OrderName } from "./orders.ts";
import { QueuesJudge } from "./queues-judge.ts";
import { Queues, type ModelSize } from "./queues.ts";
import { QueuesSystem } from "./queues-system.ts";
import { ReducedQueues, type Reductions } from "./reduced-queues.ts";

export interface OurTask extends Reductions {
  readonly order: OrderName;
}

export interface OurResult {
  readonly states: number;
  readonly transitions: number;
  /** Ends that differ, each carried out for real and judged. */
  readonly ends: number;
  readonly isSafe: boolean;
  /** What is wrong, in words, and the steps that lead there. */
  readonly violation?: { readonly sentence: string; readonly schedule: readonly number[] };
  /** Of the search's tables. */
  readonly tableBytes: number;
}

const commonModel: ModelSize = { queues: 3, packets: 3 };

function searchQueues({ order, ...reductions }: OurTask, size = commonModel): OurResult {
  const whole = new QueuesSystem(new Queues(size), order);
  const reduced = new ReducedQueues(whole, reductions);
  const judge = new QueuesJudge(whole, order);
  const isReduced = reductions.symmetry || reductions.partialOrder;
  let violation: OurResult["violation"];
  const search = new Search({
    system: isReduced ? reduced : whole,
    onEnd: (state, found) => {
      const schedule = reduced.realSteps(found.path(state));
      const sentence = judge.judge(schedule);
      if (sentence !== undefined) violation = { sentence, schedule };
      return sentence !== undefined;
    },
  });
  search.run();
  const { states, transitions, ends } = search;
  const tableBytes = search.bytes + whole.bytes;
  const isSafe = search.isExhausted;
  return { states, transitions, ends, isSafe, tableBytes, ...(violation === undefined ? {} : { violation }) };
}

if (import.meta.main) {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- written by the bench itself
  const task = JSON.parse(process.argv[2] ?? "{}") as OurTask;
  console.log(JSON.stringify(searchQueues(task)));
}
