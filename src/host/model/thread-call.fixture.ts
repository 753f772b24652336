// A thread that answers calls: adds, refuses, and dies when told to.
import { workerData } from "node:worker_threads";
import { OperationError } from "../../base/errors.ts";
import { ThreadAnswerer, type ThreadLine } from "./thread-call.ts";

export type CalculatorMethods = {
  add(numbers: { readonly a: number; readonly b: number }): number;
  refuse(why: string): never;
  die(parameters: null): never;
};

const line = workerData as ThreadLine;
const answerer = new ThreadAnswerer(line);
const methods: CalculatorMethods = {
  add: ({ a, b }) => a + b,
  refuse: (why) => {
    throw new OperationError({ code: "refused", message: why, advice: "Ask for something else.", facts: { why } });
  },
  die: () => {
    throw new TypeError("a mistake");
  },
};
try {
  for (;;) {
    if (answerer.isAsked) answerer.answer(methods);
    else answerer.sleep(1000);
  }
} catch (thrown) {
  answerer.die(String(thrown));
}
