// What people do today: moves that QEMU makes by itself, to hold the strategies against. No engine carries them out.
import type { MachineKind } from "../machine/machine.ts";

export interface Baseline {
  readonly name: string;
  /** One sentence: what it does. */
  readonly sentence: string;
  /** Where the idea comes from. */
  readonly source: string;
  /** What it asks of the guest, in words. */
  readonly needs: string;
  readonly machines: readonly MachineKind[];
  /** The guest has the VF until the move begins, and another when it is over. */
  readonly hasVf: boolean;
  /** The VF and the virtio-net card are behind a port of the network each, which learns by itself where the guest is. */
  readonly hasTwoPorts: boolean;
}

const failover: Baseline = {
  name: "failover",
  sentence:
    "QEMU unplugs the VF, moves the guest with virtio-net alone, and plugs another VF in there; the host always knows which card has the guest's frames.",
  source: "QEMU, docs/system/virtio-net-failover.rst; Linux, Documentation/networking/net_failover.rst",
  needs: "hot-plug, and a virtio-net card with net_failover that stands by",
  machines: ["qemu"],
  hasVf: true,
  hasTwoPorts: false,
};

const failoverUnmanaged: Baseline = {
  name: "failover-unmanaged",
  sentence: "The same with the two cards behind two ports of the network, and nobody tells it which of them is in use.",
  source: "Linux, Documentation/networking/net_failover.rst, without what it asks of the management",
  needs: "hot-plug, and a virtio-net card with net_failover that stands by",
  machines: ["qemu"],
  hasVf: true,
  hasTwoPorts: true,
};

const virtioNet: Baseline = {
  name: "virtio-net",
  sentence: "QEMU moves a guest that has no VF, only virtio-net.",
  source: "QEMU, docs/devel/migration/main.rst",
  needs: "a virtio-net card in place of the VF",
  machines: ["qemu"],
  hasVf: false,
  hasTwoPorts: false,
};

export const baselines: readonly Baseline[] = [failover, failoverUnmanaged, virtioNet];

/** Undefined for a name that is none of a baseline. */
export function baselineByName(name: string): Baseline | undefined {
  return baselines.find((baseline) => baseline.name === name);
}
