// What the guest's own kernel counts of its network, and what a person is told of it.
import { COMMAND_TIMEOUT_MS, type RunInGuest } from "./guest-download.ts";

export interface NetworkCounts {
  readonly retransmitted: number;
  readonly checksumErrors: number;
  readonly receiveErrors: number;
  /**
   * Answers to pings that the kernel itself threw away (Icmp OutErrors). It keeps two 64 KiB packets' worth of them on
   * their way to the card (net/ipv4/icmp.c, icmp_init): 59 of 1000 bytes. A guest that got no processor for a while finds
   * more requests than that at once, and its driver frees no answer before it has taken 64 of them.
   */
  readonly answersDiscarded: number;
  readonly complaints: number;
}

export const noCounts: NetworkCounts = {
  retransmitted: 0,
  checksumErrors: 0,
  receiveErrors: 0,
  answersDiscarded: 0,
  complaints: 0,
};

/** Rejects with OperationError `guest-command-timeout`. */
export async function readCounts(runInGuest: RunInGuest): Promise<NetworkCounts> {
  const command =
    "cat /proc/net/snmp; cat /sys/class/net/eth0/statistics/rx_errors; dmesg | grep -ciE 'hang|bug|oops|reset'";
  const { output } = await runInGuest({ command, timeoutMs: COMMAND_TIMEOUT_MS });
  const numbers = output.split("\n").flatMap((line) => (/^\d+\s*$/.test(line) ? [Number(line)] : []));
  const [tcp, icmp] = [snmpFields(output, "Tcp"), snmpFields(output, "Icmp")];
  return {
    retransmitted: tcp("RetransSegs"),
    checksumErrors: tcp("InCsumErrors") + tcp("InErrs") + icmp("InCsumErrors"),
    receiveErrors: numbers[0] ?? 0,
    answersDiscarded: icmp("OutErrors"),
    complaints: numbers[1] ?? 0,
  };
}

/** /proc/net/snmp: a line of names and a line of numbers for each protocol. What is not there is zero. */
function snmpFields(text: string, protocol: string): (name: string) => number {
  const lines = text.split(/\r?\n/).filter((line) => line.startsWith(`${protocol}: `));
  const names = lines[0]?.split(" ").slice(1) ?? [];
  const values = lines[1]?.split(" ").slice(1) ?? [];
  const fields = new Map(names.map((name, i) => [name, Number(values[i] ?? 0)]));
  return (name) => fields.get(name) ?? 0;
}

/** Whole sentences on what has grown. */
export function changedSentences(before: NetworkCounts, now: NetworkCounts): string[] {
  const sentences: string[] = [];
  const say = (count: number, sentence: string): void => void (count > 0 && sentences.push(`${count} ${sentence}`));
  say(now.retransmitted - before.retransmitted, "TCP segments were sent again by the guest.");
  say(now.checksumErrors - before.checksumErrors, "packets reached the guest's stack with a wrong checksum.");
  say(now.receiveErrors - before.receiveErrors, "receive errors were counted by the guest's driver.");
  say(
    now.answersDiscarded - before.answersDiscarded,
    "answers to pings were thrown away by the guest's kernel, which had more to send at once than it keeps.",
  );
  say(now.complaints - before.complaints, "new complaints stand in the guest's kernel log.");
  return sentences;
}
