// The fabric as a process: its parent starts it, asks over their channel, and takes it along when it goes.
import { assert } from "../base/assert.ts";
import { networkPlan } from "../network/plan.ts";
import { serveParent } from "./child-rpc.ts";
import { hostClock } from "./clock.ts";
import {
  captureSchema,
  checked,
  nothingSchema,
  passtSchema,
  pingerSchema,
  pingReportSchema,
  setLinkSchema,
  startPingerSchema,
  startSchema,
  type FabricMethods,
} from "./fabric-messages.ts";
import { FabricServer } from "./fabric-server.ts";

let fabric: FabricServer | undefined;

function running(): FabricServer {
  assert(fabric !== undefined, "the fabric is started first");
  return fabric;
}

const methods: FabricMethods = {
  async start(parameters) {
    const { directory, cables, seed } = checked(startSchema, parameters);
    assert(fabric === undefined, "the fabric is started once");
    fabric = new FabricServer({ clock: hostClock, seed, onEvent: (event) => parent.emit(event) });
    for (const cable of cables) await fabric.addCable(cable, directory);
    return null;
  },
  async setLink(parameters) {
    const { port, ...change } = checked(setLinkSchema, parameters);
    running().setLink(port, change);
    return null;
  },
  async counters(parameters) {
    checked(nothingSchema, parameters);
    return running().counters();
  },
  async startPinger(parameters) {
    const { name, ...settings } = checked(startPingerSchema, parameters);
    running().peer.startPinger(name, { targetIp: networkPlan.guestIp, ...settings });
    running().pump();
    return null;
  },
  async stopPinger(parameters) {
    running().peer.stopPinger(checked(pingerSchema, parameters).name);
    return null;
  },
  async pingReport(parameters) {
    const { name, ...window } = checked(pingReportSchema, parameters);
    return running().peer.pingReport(name, window);
  },
  async startCapture(parameters) {
    await running().startCapture(checked(captureSchema, parameters).path);
    return null;
  },
  async stopCapture(parameters) {
    checked(nothingSchema, parameters);
    return running().stopCapture();
  },
  async connectPasst(parameters) {
    return { pid: await running().connectPasst(checked(passtSchema, parameters).program) };
  },
};

const parent = serveParent(methods, () => {
  // A capture that cannot be completed has nobody left to be told.
  fabric?.close().catch(() => {});
});
