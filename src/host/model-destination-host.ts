// The destination's host of a model guest: waits for a source and takes its guest in; the network then sends there.
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { assert } from "../base/assert.ts";
import { ImageRecorder, serializeImage } from "../audit/image-recorder.ts";
import { guestMac } from "../machine/model/host.ts";
import { MODEL_STATE_VERSION } from "../machine/model/state.ts";
import { Destination, type PreparedVm } from "../migration/destination.ts";
import type { Offer } from "../migration/wire/protocol.ts";
import { formatMac, macAt } from "../network/mac.ts";
import type { VfState } from "../nic/state.ts";
import { hostClock } from "./clock.ts";
import { everySecond } from "./every-second.ts";
import type { TrafficCounts } from "./model/methods.ts";
import type { ModelVmSettings } from "./model/vm.ts";
import { startModelVm, type StartedModelVm } from "./model-vm.ts";
import { refuseUnless } from "./refusal.ts";
import { listenTcp, type TcpAddress } from "./tcp-transport.ts";
import type { DestinationEvidence, VmHostEvent } from "./vm-host-messages.ts";

export class ModelDestinationHost {
  readonly #settings: ModelVmSettings;
  readonly #emit: (event: VmHostEvent) => void;
  readonly #started: StartedModelVm;
  readonly #image: ImageRecorder;
  #isTaken = false;
  #resumedWith: VfState | undefined;
  /** Number of the first frame that the network sent here. */
  #firstFrame = 0;

  constructor(settings: ModelVmSettings, emit: (event: VmHostEvent) => void) {
    this.#settings = settings;
    this.#emit = emit;
    this.#started = startModelVm(settings);
    this.#image = new ImageRecorder(this.#started.vm.machine.memory.pages);
    this.#started.vm.vf.stop();
    this.#started.thread.call("rehearse", null);
  }

  async listen(): Promise<TcpAddress> {
    const destination = new Destination({
      clock: hostClock,
      prepare: async (offer) => this.#prepare(offer),
      machineStateVersion: MODEL_STATE_VERSION,
      onEvent: (event) => this.#emit({ kind: "migration", event }),
      image: this.#image,
      onRunning: (resumedWith) => this.#arrived(resumedWith),
      everySecond,
    });
    const listener = await listenTcp({ host: "127.0.0.1", port: 0 }, (transport) => void destination.serve(transport));
    return listener.address;
  }

  #prepare(offer: Offer): PreparedVm {
    const { memoryBytes } = this.#settings;
    const mac = formatMac(macAt(guestMac, 0));
    refuseUnless(offer.machine === "model", `the machine ${offer.machine}`, "--machine");
    refuseUnless(offer.memoryBytes === memoryBytes, `${offer.memoryBytes} bytes of memory`, "--memory");
    refuseUnless(offer.mac === mac, `the address ${offer.mac}`, "the VF's address");
    refuseUnless(!this.#isTaken, "a second guest", "another destination");
    this.#isTaken = true;
    const { vm, thread } = this.#started;
    thread.call("arrivalBegins", null);
    return { machine: vm.machine, vf: vm.vf, discard: () => vm.machine.pause() };
  }

  #arrived(resumedWith: VfState): void {
    const { thread } = this.#started;
    this.#resumedWith = resumedWith;
    thread.call("connect", null);
    this.#firstFrame = thread.call("counts", null).next;
  }

  /** The network falls silent. */
  disconnect(): void {
    this.#started.thread.call("disconnect", null);
  }

  counts(): TrafficCounts {
    return this.#started.thread.call("counts", null);
  }

  async evidence(directory: string): Promise<DestinationEvidence & { readonly firstFrame: number }> {
    assert(this.#resumedWith !== undefined, "there is evidence only of a guest that runs");
    const memoryFile = path.join(directory, "destination-memory");
    await writeFile(memoryFile, serializeImage(this.#image.bytes, this.#image.pages.sizeBytes));
    const seen = this.#started.thread.call("arrivalEvidence", null);
    return { memoryFile, vfAtResume: this.#resumedWith, ...seen, firstFrame: this.#firstFrame };
  }
}
