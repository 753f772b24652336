// A host of a model guest as a process: the source of a move or its destination, at its parent's word.
import { assert } from "../base/assert.ts";
import { serveParent } from "./child-rpc.ts";
import { ModelDestinationHost } from "./model-destination-host.ts";
import { ModelSourceHost } from "./model-source-host.ts";
import type { TrafficCounts } from "./model/methods.ts";
import type { ModelVmSettings } from "./model/vm.ts";
import type { TcpAddress } from "./tcp-transport.ts";
import type { DestinationEvidence, SourceEvidence, VmHostEvent, VmHostMethods } from "./vm-host-messages.ts";

export type ModelHostMethods = Pick<VmHostMethods, "moveOut" | "cancel" | "stopDevice"> & {
  startGuest(settings: ModelVmSettings): Promise<ModelSourceHost["methods"]>;
  listen(settings: ModelVmSettings): Promise<TcpAddress>;
  /** What guest and network have counted on this host. */
  counts(parameters: null): Promise<TrafficCounts>;
  /** Source: how many of the network's frames from this number on came here. */
  offeredFrom(number: number): Promise<number>;
  /** Destination: the network falls silent. */
  disconnect(parameters: null): Promise<null>;
  sourceEvidence(parameters: { directory: string }): Promise<SourceEvidence>;
  destinationEvidence(parameters: {
    directory: string;
  }): Promise<DestinationEvidence & { readonly firstFrame: number }>;
};

let source: ModelSourceHost | undefined;
let destination: ModelDestinationHost | undefined;

function theSource(): ModelSourceHost {
  assert(source !== undefined, "the guest is started first");
  return source;
}

function theDestination(): ModelDestinationHost {
  assert(destination !== undefined, "the destination listens first");
  return destination;
}

const emit = (event: VmHostEvent): void => parent.emit(event);

const methods: ModelHostMethods = {
  async startGuest(settings) {
    assert(source === undefined && destination === undefined, "a host has one VM");
    source = new ModelSourceHost(settings, emit);
    return source.methods;
  },
  moveOut: (settings) => theSource().moveOut(settings),
  async cancel() {
    theSource().cancel();
    return null;
  },
  async stopDevice() {
    theSource().stopDevice();
    return null;
  },
  async listen(settings) {
    assert(source === undefined && destination === undefined, "a host has one VM");
    destination = new ModelDestinationHost(settings, emit);
    return destination.listen();
  },
  counts: async () => (source ?? theDestination()).counts(),
  offeredFrom: async (number) => theSource().offeredFrom(number),
  async disconnect() {
    theDestination().disconnect();
    return null;
  },
  sourceEvidence: async ({ directory }) => theSource().evidence(directory),
  destinationEvidence: ({ directory }) => theDestination().evidence(directory),
};

const parent = serveParent(methods, () => {});
