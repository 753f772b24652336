// Small words of a story: lists of numbers, addresses, sentences put together.

/** Such as "3", "3 and 5", "3, 5 and 9 to 14"; "none" of nothing. Numbers in their order. */
export function numbersInWords(numbers: readonly number[]): string {
  const runs: [first: number, last: number][] = [];
  for (const number of numbers) {
    const run = runs.at(-1);
    if (run !== undefined && number === run[1] + 1) run[1] = number;
    else runs.push([number, number]);
  }
  const parts = runs.flatMap(([first, last]) =>
    first === last ? [`${first}`] : last === first + 1 ? [`${first}`, `${last}`] : [`${first} to ${last}`],
  );
  return listInWords(parts);
}

/** Numbers that go down, and round once: "2 down to 0 and 7 down to 3". */
export function numbersDownInWords(numbers: readonly number[]): string {
  const runs: [first: number, last: number][] = [];
  for (const number of numbers) {
    const run = runs.at(-1);
    if (run !== undefined && number === run[1] - 1) run[1] = number;
    else runs.push([number, number]);
  }
  return listInWords(runs.map(([first, last]) => (first === last ? `${first}` : `${first} down to ${last}`)));
}

export function listInWords(parts: readonly string[]): string {
  if (parts.length === 0) return "none";
  const last = parts.at(-1) ?? "";
  return parts.length === 1 ? last : `${parts.slice(0, -1).join(", ")} and ${last}`;
}

/** Such as "page 3" or "pages 3 and 5". */
export const pagesInWords = (pages: readonly number[]): string =>
  pages.length === 0 ? "no page" : `${pages.length === 1 ? "page" : "pages"} ${numbersInWords(pages)}`;

export const addressInWords = (address: number): string => `0x${address.toString(16)}`;
