// Quantities as people write and read them: sizes, rates, times, counts.
import { OperationError } from "../base/errors.ts";

const KIB = 1024;
const sizeUnits: Readonly<Record<string, number>> = { K: KIB, M: KIB ** 2, G: KIB ** 3 };
const rateUnits: Readonly<Record<string, number>> = { "": 1, K: 1e3, M: 1e6, G: 1e9 };

interface Bounds {
  readonly min: number;
  readonly max: number;
}

/** What an option was given that it cannot be. */
function wrongValue(option: string, value: string, message: string, advice: string): OperationError {
  return new OperationError({ code: "usage-invalid-value", message, advice, facts: { option, value } });
}

/** Bytes from `128M` or `1G`: binary units, a whole number of MiB within the bounds. Throws `usage-invalid-value`. */
export function parseSize(option: string, text: string, bounds: Bounds): number {
  const match = /^(\d+)([KMG])(i?B)?$/i.exec(text);
  const bytes = Number(match?.[1]) * (sizeUnits[match?.[2]?.toUpperCase() ?? ""] ?? Number.NaN);
  if (Number.isNaN(bytes)) {
    throw wrongValue(
      option,
      text,
      `${option} takes a size, and "${text}" is none.`,
      "Write a size such as 128M or 1G.",
    );
  }
  if (bytes < bounds.min || bytes > bounds.max || bytes % KIB ** 2 !== 0) {
    const message = `${option} ${text} is not a size that this machine can have.`;
    const range = `from ${formatSize(bounds.min)} to ${formatSize(bounds.max)}`;
    throw wrongValue(option, text, message, `Use whole MiB ${range}.`);
  }
  return bytes;
}

const rateBounds: Bounds = { min: 1e6, max: 1e12 };

/**
 * Bytes per second from a rate such as `100M` or `1G`: bits per second in decimal units, as links are named; with `B`
 * behind it (`12MB`) bytes per second. From 1 Mbit/s to 1 Tbit/s. Throws `usage-invalid-value`.
 */
export function parseRate(option: string, text: string): number {
  const match = /^(\d+(?:\.\d+)?)([KMG]?)(b|bit|B)?$/.exec(text.replace(/^([\d.]+)([kmg])/, upperUnit));
  const bits = Number(match?.[1]) * (rateUnits[match?.[2] ?? ""] ?? Number.NaN) * (match?.[3] === "B" ? 8 : 1);
  if (match === null || Number.isNaN(bits)) {
    const advice = "Write bits per second such as 100M or 1G, or bytes per second such as 12MB.";
    throw wrongValue(option, text, `${option} takes a rate, and "${text}" is none.`, advice);
  }
  if (bits < rateBounds.min || bits > rateBounds.max) {
    const advice = `Use a rate from ${formatRate(rateBounds.min / 8)} to ${formatRate(rateBounds.max / 8)}.`;
    throw wrongValue(option, text, `${option} ${text} is out of range.`, advice);
  }
  return bits / 8;
}

const upperUnit = (_: string, digits: string, unit: string): string => digits + unit.toUpperCase();

/** A whole number, in decimal digits. Throws `usage-invalid-value`. */
export function parseWholeNumber(option: string, text: string, bounds: Bounds): number {
  const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= bounds.min && value <= bounds.max) return value;
  const advice = `Use a whole number from ${formatCount(bounds.min)} to ${formatCount(bounds.max)}.`;
  throw wrongValue(option, text, `${option} cannot be "${text}".`, advice);
}

/** One of some words. Throws `usage-invalid-value`. */
export function parseChoice<Choice extends string>(option: string, text: string, choices: readonly Choice[]): Choice {
  const found = choices.find((choice) => choice === text);
  if (found !== undefined) return found;
  const advice = choices.length === 1 ? `It can be ${choices.join()} only.` : `Use one of: ${choices.join(", ")}.`;
  throw wrongValue(option, text, `${option} cannot be "${text}".`, advice);
}

/** Three significant digits: 1.25, 12.5, 125. Larger numbers keep all their digits. */
function threeDigits(value: number): string {
  if (value === 0) return "0";
  const decimals = Math.max(0, Math.min(2, 2 - Math.floor(Math.log10(value))));
  return value.toLocaleString("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
}

export const formatCount = (count: number): string => count.toLocaleString("en-US", { maximumFractionDigits: 0 });

/** A size that was chosen, in whole units where it is: `128 MiB`. */
export function formatSize(bytes: number): string {
  const unit = bytes % KIB ** 3 === 0 ? "GiB" : "MiB";
  const value = bytes / (unit === "GiB" ? KIB ** 3 : KIB ** 2);
  return `${value.toLocaleString("en-US")} ${unit}`;
}

/** A size that was measured: `512 bytes`, `1.25 MiB`, `36.0 MiB`. */
export function formatBytes(bytes: number): string {
  if (bytes < KIB) return bytes === 1 ? "1 byte" : `${formatCount(bytes)} bytes`;
  const exponent = Math.min(3, Math.floor(Math.log2(bytes) / 10));
  const value = bytes / KIB ** exponent;
  return `${threeDigits(value)} ${["", "KiB", "MiB", "GiB"][exponent]}`;
}

/** Bits per second, as links are named: `1.25 Gbit/s`. */
export function formatRate(bytesPerSecond: number): string {
  const bits = bytesPerSecond * 8;
  if (bits < 1e6) return `${threeDigits(bits / 1e3)} kbit/s`;
  if (bits < 1e9) return `${threeDigits(bits / 1e6)} Mbit/s`;
  return `${threeDigits(bits / 1e9)} Gbit/s`;
}

/** `0.04 ms`, `17.4 ms`, `412 ms`, `2.31 s`, `3 min 20 s`. */
export function formatMs(ms: number): string {
  if (ms < 0.005) return "0.00 ms";
  if (ms < 999.5) return ms < 1 ? `${ms.toFixed(2)} ms` : `${threeDigits(ms)} ms`;
  if (ms < 99_950) return `${threeDigits(ms / 1000)} s`;
  const seconds = Math.round(ms / 1000);
  return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}

/** `1 frame`, `12 frames`. */
export function counted(count: number, noun: string, plural = `${noun}s`): string {
  return `${formatCount(count)} ${count === 1 ? noun : plural}`;
}
