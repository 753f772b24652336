// A host as a process: has one VM, as the source of a move or as its destination, and does what its parent asks.
import { assert } from "../base/assert.ts";
import { serveParent } from "./child-rpc.ts";
import { DestinationHost } from "./destination-host.ts";
import { SourceHost } from "./source-host.ts";
import type { VmHostEvent, VmHostMethods } from "./vm-host-messages.ts";

let source: SourceHost | undefined;
let destination: DestinationHost | undefined;

function theSource(): SourceHost {
  assert(source !== undefined, "the guest is started first");
  return source;
}

function theDestination(): DestinationHost {
  assert(destination !== undefined, "the destination listens first");
  return destination;
}

const emit = (event: VmHostEvent): void => parent.emit(event);

const methods: VmHostMethods = {
  async startGuest(settings) {
    assert(source === undefined && destination === undefined, "a host has one VM");
    source = await SourceHost.start(settings, emit);
    return source.methods;
  },
  runCommand: (parameters) => (source ?? theDestination()).runCommand(parameters),
  framesDropped: async () => (source ?? theDestination()).framesDropped,
  moveOut: (settings) => theSource().moveOut(settings),
  async cancel() {
    theSource().cancel();
    return null;
  },
  async stopDevice() {
    theSource().stopDevice();
    return null;
  },
  sourceEvidence: ({ directory }) => theSource().evidence(directory),
  async listen(settings) {
    assert(source === undefined && destination === undefined, "a host has one VM");
    destination = new DestinationHost(settings, emit);
    return destination.listen();
  },
  destinationEvidence: ({ directory }) => theDestination().evidence(directory),
};

const parent = serveParent(methods, () => {});
