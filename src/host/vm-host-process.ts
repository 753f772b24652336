// A host as a process: has one VM, as the source of a move or as its destination, and does what its parent asks.
import { serveParent } from "./child-rpc.ts";
import { DestinationHost } from "./destination-host.ts";
import { OneVm } from "./one-vm.ts";
import { SourceHost } from "./source-host.ts";
import type { VmHostEvent, VmHostMethods } from "./vm-host-messages.ts";

const vm = new OneVm<SourceHost, DestinationHost>();
const emit = (event: VmHostEvent): void => parent.emit(event);

const methods: VmHostMethods = {
  ...vm.sourceMethods,
  startGuest: async (settings) => (await vm.becomeSource(() => SourceHost.start(settings, emit))).methods,
  runCommand: (parameters) => vm.either.runCommand(parameters),
  framesDropped: async () => vm.either.framesDropped,
  sourceEvidence: ({ directory }) => vm.source.evidence(directory),
  listen: async (settings) => await vm.becomeDestination(() => new DestinationHost(settings, emit)).listen(),
  destinationEvidence: ({ directory }) => vm.destination.evidence(directory),
};

const parent = serveParent(methods, () => {});
