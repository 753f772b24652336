// The states of a migrating device, VFIO's version 2: fifteen arcs, and the way from any state to any other along them.
//
// Source: enum vfio_device_mig_state in Linux's include/uapi/linux/vfio.h, vfio_mig_get_next_state in
// drivers/vfio/vfio_main.c, and "Direct State Transitions" of the vfio-user specification, which leaves out the two P2P
// states; they are here for clients that know them.

export const DeviceState = {
  error: 0,
  stop: 1,
  running: 2,
  stopCopy: 3,
  resuming: 4,
  runningP2p: 5,
  preCopy: 6,
  preCopyP2p: 7,
} as const;
export type DeviceState = (typeof DeviceState)[keyof typeof DeviceState];

const { stop, running, stopCopy, resuming, runningP2p, preCopy, preCopyP2p } = DeviceState;

/** The arcs: from each state, those that are one step away. */
export const arcs: ReadonlyMap<DeviceState, readonly DeviceState[]> = new Map([
  [stop, [runningP2p, stopCopy, resuming]],
  [running, [runningP2p, preCopy]],
  [stopCopy, [stop]],
  [resuming, [stop]],
  [runningP2p, [running, stop, preCopyP2p]],
  [preCopy, [running, preCopyP2p]],
  [preCopyP2p, [preCopy, runningP2p, stopCopy]],
] as const);

/**
 * States that a way may begin or end in but not lead through: the ones that save, whose data would be lost unread.
 */
const saving: ReadonlySet<DeviceState> = new Set([stopCopy, preCopy, preCopyP2p]);

/** From a state that stops the device to save it, the way back to saving while it runs is blocked. */
function isBlocked(from: DeviceState, to: DeviceState): boolean {
  return from === stopCopy && (to === preCopy || to === preCopyP2p);
}

/** May be passed on the way: any that does not save; and PRE_COPY_P2P, between PRE_COPY and STOP_COPY only. */
function mayPass(state: DeviceState, from: DeviceState, to: DeviceState): boolean {
  if (!saving.has(state)) return true;
  return state === preCopyP2p && from === preCopy && to === stopCopy;
}

export function isDeviceState(value: number): value is DeviceState {
  return Number.isInteger(value) && value >= DeviceState.error && value <= DeviceState.preCopyP2p;
}

/**
 * The states to go through, the last one included; empty if `to` is where the device is. Undefined if there is no way:
 * out of ERROR only a reset leads, and nothing leads there but a failure.
 */
export function wayBetween(from: DeviceState, to: DeviceState): readonly DeviceState[] | undefined {
  if (from === DeviceState.error || to === DeviceState.error || isBlocked(from, to)) return undefined;
  const ways: DeviceState[][] = [[]];
  const seen = new Set<DeviceState>([from]);
  for (let way = ways.shift(); way !== undefined; way = ways.shift()) {
    const here: DeviceState = way.at(-1) ?? from;
    if (here === to) return way;
    if (here !== from && !mayPass(here, from, to)) continue;
    for (const next of arcs.get(here) ?? []) {
      if (seen.has(next)) continue;
      seen.add(next);
      ways.push([...way, next]);
    }
  }
  return undefined;
}
