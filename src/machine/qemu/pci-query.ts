// Where QEMU has a device on the PCI buses: the answer of `query-pci` and the search in it.
import * as v from "valibot";
import { OperationError } from "../../base/errors.ts";
import type { PciAddress } from "./guest-ports.ts";
import type { QmpClient } from "./qmp.ts";

const u16 = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(0xffff));
const DEPTH_MAX = 16;

export interface QueriedDevice extends PciAddress {
  readonly qdev_id: string;
  readonly id: { readonly vendor: number; readonly device: number };
  readonly pci_bridge?: { readonly devices?: readonly QueriedDevice[] | undefined } | undefined;
}

const deviceSchema: v.GenericSchema<QueriedDevice> = v.object({
  bus: v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(255)),
  slot: v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(31)),
  function: v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(7)),
  qdev_id: v.string(),
  id: v.object({ vendor: u16, device: u16 }),
  pci_bridge: v.optional(v.object({ devices: v.optional(v.array(v.lazy(() => deviceSchema))) })),
});
export const pciQuerySchema = v.array(v.object({ devices: v.array(deviceSchema) }));

/** Which device is meant: the id it was given on QEMU's command line, or the only one of its vendor and kind. */
export interface DeviceChoice {
  readonly qdevId?: string;
  readonly vendorId: number;
  readonly deviceId: number;
}

export interface FoundDevice {
  readonly device: QueriedDevice;
  /** The bridges on the way from the root bus, outermost first. */
  readonly bridges: readonly QueriedDevice[];
}

/**
 * Asks QEMU. Devices behind a bridge whose buses nobody has numbered yet are not seen. Rejects with OperationError
 * `pci-device-missing` or `pci-device-ambiguous`, and as QmpClient's `execute`.
 */
export async function findPciDevice(qmp: QmpClient, choice: DeviceChoice): Promise<FoundDevice> {
  return chooseDevice(await qmp.execute("query-pci", pciQuerySchema), choice);
}

export function chooseDevice(buses: v.InferOutput<typeof pciQuerySchema>, choice: DeviceChoice): FoundDevice {
  const fitting: FoundDevice[] = [];
  const walk = (devices: readonly QueriedDevice[], bridges: readonly QueriedDevice[]): void => {
    for (const device of devices) {
      if (fits(device, choice)) fitting.push({ device, bridges });
      if (bridges.length < DEPTH_MAX) walk(device.pci_bridge?.devices ?? [], [...bridges, device]);
    }
  };
  for (const { devices } of buses) walk(devices, []);
  const [only, another] = fitting;
  if (only === undefined) throw notFound("pci-device-missing", choice, "has no");
  if (another !== undefined) throw notFound("pci-device-ambiguous", choice, "has more than one");
  return only;
}

function fits(device: QueriedDevice, choice: DeviceChoice): boolean {
  if (device.id.vendor !== choice.vendorId || device.id.device !== choice.deviceId) return false;
  return choice.qdevId === undefined || device.qdev_id === choice.qdevId;
}

function notFound(
  code: "pci-device-missing" | "pci-device-ambiguous",
  choice: DeviceChoice,
  how: string,
): OperationError {
  const kind = `${choice.vendorId.toString(16)}:${choice.deviceId.toString(16)}`;
  const named = choice.qdevId === undefined ? "" : ` with id ${choice.qdevId}`;
  return new OperationError({
    code,
    message: `this QEMU ${how} PCI device ${kind}${named} that can be reached`,
    advice: "Name the device by the id= it was given on QEMU's command line; the guest must have found its bus by now.",
    facts: { kind, qdevId: choice.qdevId ?? "" },
  });
}
