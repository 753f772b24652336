// Compares upstream versions, the part of a Debian version that a program itself would tell.

/**
 * Whether `version`, with or without Debian's epoch and revision (`1:11.1.2+ds-3`), is `minimum` or newer by its
 * leading numbers: `10.1.0-rc1` counts as 10.1, for which nothing here needs to know better.
 */
export function isVersionAtLeast(version: string, minimum: string): boolean {
  const have = numbersOf(version);
  for (const [index, wanted] of numbersOf(minimum).entries()) {
    const number = have[index] ?? 0;
    if (number !== wanted) return number > wanted;
  }
  return true;
}

function numbersOf(version: string): number[] {
  const numbers = /^(?:\d+:)?(?<numbers>\d+(?:\.\d+)*)/.exec(version)?.groups?.["numbers"];
  return numbers?.split(".").map(Number) ?? [];
}
