// A host of a model guest as a process: the source of a move or its destination, at its parent's word.
import { serveParent } from "./child-rpc.ts";
import { ModelDestinationHost } from "./model-destination-host.ts";
import { ModelSourceHost } from "./model-source-host.ts";
import type { TrafficCounts } from "./model/methods.ts";
import type { ModelVmSettings } from "./model/vm.ts";
import { OneVm } from "./one-vm.ts";
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

const vm = new OneVm<ModelSourceHost, ModelDestinationHost>();
const emit = (event: VmHostEvent): void => parent.emit(event);

const methods: ModelHostMethods = {
  ...vm.sourceMethods,
  startGuest: async (settings) => (await vm.becomeSource(() => new ModelSourceHost(settings, emit))).methods,
  listen: async (settings) => await vm.becomeDestination(() => new ModelDestinationHost(settings, emit)).listen(),
  counts: async () => vm.either.counts(),
  offeredFrom: async (number) => vm.source.offeredFrom(number),
  async disconnect() {
    vm.destination.disconnect();
    return null;
  },
  sourceEvidence: async ({ directory }) => vm.source.evidence(directory),
  destinationEvidence: ({ directory }) => vm.destination.evidence(directory),
};

const parent = serveParent(methods, () => {});
