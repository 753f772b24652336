// Starts the thread of a model VM, and is the VM for who stays on this one.
import { MessageChannel, Worker } from "node:worker_threads";
import type { ModelThreadMethods, ModelThreadSetup } from "./model-thread.ts";
import { RemoteVm } from "./model/remote-vm.ts";
import { ThreadCaller, threadWords } from "./model/thread-call.ts";
import { QUEUE_PAIRS, type ModelVmSettings } from "./model/vm.ts";

export interface StartedModelVm {
  readonly vm: RemoteVm;
  readonly thread: ThreadCaller<ModelThreadMethods>;
}

/**
 * A VM that does not run yet, with memory of zeros; it ends with this process. A mistake in its thread ends the process,
 * as one of the process's own would.
 */
export function startModelVm(settings: ModelVmSettings): StartedModelVm {
  const memory = new SharedArrayBuffer(settings.memoryBytes);
  const words = threadWords();
  const { port1, port2 } = new MessageChannel();
  const setup: ModelThreadSetup = { settings, memory, line: { words, port: port2 } };
  const worker = new Worker(new URL("./model-thread.ts", import.meta.url), {
    workerData: setup,
    transferList: [port2],
  });
  worker.on("error", (error) => {
    throw error;
  });
  const thread = new ThreadCaller<ModelThreadMethods>({ words, port: port1 });
  const vm = new RemoteVm(thread, { memory, memoryBytes: settings.memoryBytes, queuePairs: QUEUE_PAIRS });
  return { vm, thread };
}
