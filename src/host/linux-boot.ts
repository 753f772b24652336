// Boots the guest's Linux and brings its network up: from power-on to a prompt behind a configured eth0.
import { OperationError } from "../base/errors.ts";
import type { Console } from "../machine/machine.ts";
import type { PcMachine } from "../machine/pc/machine.ts";
import { runCommand } from "../machine/shell.ts";
import { formatIpv4 } from "../network/ipv4.ts";
import { networkPlan } from "../network/plan.ts";

/**
 * Of the parameters only `console` matters for anything but time. `nokaslr` gives the same addresses in every boot; no
 * mitigations, self-tests, audit or AppArmor, and two initcalls less that search for what is not there (ISA cards) or
 * take a second to set up what nobody uses (trace events of kprobes).
 */
export const kernelCommandLine = [
  "console=ttyS0 quiet nokaslr random.trust_cpu=on mitigations=off mce=off cryptomgr.notests apparmor=0 audit=0",
  "initcall_blacklist=init_kprobe_trace,isapnp_init",
].join(" ");

const prompt = "guest# ";
const panic = /Kernel panic - not syncing[^]*end Kernel panic/;
const bootTimeoutMs = 180_000;
const commandTimeoutMs = 60_000;

/** An address for eth0, which is up, and a link. */
export const addressCommands: readonly string[] = [
  `ip addr add ${formatIpv4(networkPlan.guestIp)}/${networkPlan.prefixLength} dev eth0`,
  `ip route add default via ${formatIpv4(networkPlan.gatewayIp)}`,
  "n=0; while [ $n -lt 100 ] && ! grep -q 1 /sys/class/net/eth0/carrier; do n=$((n+1)); usleep 100000; done",
  "grep -q 1 /sys/class/net/eth0/carrier",
];

export const networkCommands: readonly string[] = ["ip link set eth0 up", ...addressCommands];

/**
 * The link is taken down and up once more, and then time has to pass: when the PF resets the VF (strategy `reinit`),
 * ixgbevf starts over only if jiffies has passed `last_reset` by 10 s. A driver that was never reset has 0 there, and
 * 32-bit jiffies begin at -300 s, so that without this the reset would be ignored until 310 s after boot.
 */
export const networkCommands32Bit: readonly string[] = [
  "ip link set eth0 up",
  "ip link set eth0 down",
  ...networkCommands,
  "sleep 12",
];

/** Boots the embedded PC; see untilPrompt and bringUpNetwork. */
export async function bootLinux(machine: PcMachine, onProgress: (text: string) => void): Promise<void> {
  onProgress("booting Linux (once; later starts use a snapshot)");
  machine.isSkippingIdleTime = true;
  try {
    await untilPrompt(machine.console, () => void machine.resume());
    onProgress("bringing up the guest's network");
    await bringUpNetwork(machine.console, networkCommands32Bit);
  } finally {
    machine.isSkippingIdleTime = false;
  }
}

/** Runs each command in the guest. Fails with OperationError `guest-boot-failed` at the first that does not succeed. */
export async function bringUpNetwork(console: Console, commands: readonly string[]): Promise<void> {
  for (const command of commands) {
    const { exitStatus, output } = await runCommand(console, command, { timeoutMs: commandTimeoutMs });
    if (exitStatus !== 0) throw bootFailed(`"${command}" ended with ${exitStatus}`, output);
  }
}

/**
 * Resolves with the guest at its prompt, after `start` has set it going. Fails with OperationError `guest-boot-failed`, or for
 * the reason for which `lost` is aborted.
 */
export function untilPrompt(console: Console, start: () => void, lost?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = console.onOutput(() => {
      if (console.output.endsWith(prompt)) end(resolve);
      else if (panic.test(console.output)) end(() => reject(bootFailed("its kernel panicked", console.output)));
    });
    const timer = setTimeout(
      () => end(() => reject(bootFailed(`no prompt within ${bootTimeoutMs / 1000} s`, console.output))),
      bootTimeoutMs,
    );
    const isLost = (): void => end(() => reject(lost?.reason));
    const end = (settle: () => void): void => {
      clearTimeout(timer);
      lost?.removeEventListener("abort", isLost);
      stop();
      settle();
    };
    lost?.addEventListener("abort", isLost);
    start();
  });
}

function bootFailed(what: string, console: string): OperationError<"guest-boot-failed"> {
  return new OperationError({
    code: "guest-boot-failed",
    message: `the guest's Linux did not start: ${what}`,
    advice: "the facts have the console's last lines; a kernel given by hand needs a serial console and ixgbevf",
    facts: { console: console.slice(-2000) },
  });
}
