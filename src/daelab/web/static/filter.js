// The filter of the runs: words, and comparisons such as lr < 0.01 or status = running.

const TERM = /([\w.]+)\s*(<=|>=|!=|=|<|>)\s*("[^"]*"|\S+)/g;
const COMPARE = {
  "<": (a, b) => a < b,
  ">": (a, b) => a > b,
  "<=": (a, b) => a <= b,
  ">=": (a, b) => a >= b,
  "=": (a, b) => a === b,
  "!=": (a, b) => a !== b,
};

/** Return the column of a name: its key, its title, or another name of it. */
const find = (columns, name) => columns.find(({ key, also }) => key === name || also.includes(name));

/**
 * Read a filter.
 *
 * @param columns The columns of the runs, as the server describes them.
 * @returns {test: whether a row matches, problem: what is wrong with the text, or ""}
 */
export function readFilter(text, columns) {
  const tests = [];
  let problem = "";
  const rest = text.toLowerCase().replace(TERM, (_, name, sign, given) => {
    const column = find(columns, name);
    const word = given.replaceAll('"', "");
    if (!column) problem ||= `No column is named ${name}. Some that are: ${columns.slice(4, 11).map(({ key, also }) => also[0] ?? key).join(", ")}.`;
    else if (/[<>]/.test(sign) && !Number.isFinite(Number(word))) problem ||= `${name} ${sign} needs a number, not ${word}.`;
    else tests.push((row) => compare(row[column.key], sign, word));
    return " ";
  });
  const words = rest.split(/\s+/).filter(Boolean);
  return { problem, test: (row) => tests.every((test) => test(row)) && (!words.length || words.every((word) => textOf(row).includes(word))) };
}

function compare(value, sign, word) {
  if (value === null || value === undefined) return sign === "!=";
  const numeric = typeof value === "number" && word !== "" && Number.isFinite(Number(word));
  return numeric ? COMPARE[sign](value, Number(word)) : COMPARE[sign](String(value).toLowerCase(), word);
}

const texts = new WeakMap();

/** Return all texts of a row in one. It is kept, since thousands of rows are searched at every key. */
function textOf(row) {
  if (!texts.has(row)) texts.set(row, Object.values(row).join("\n").toLowerCase());
  return texts.get(row);
}
