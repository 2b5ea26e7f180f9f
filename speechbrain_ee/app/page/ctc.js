// SPDX-License-Identifier: Apache-2.0
// Greedy CTC decoding and the exit scores of best paths, as in ee_runtime.text and ee_runtime.path_scores.

const SPECIAL_TOKENS = 3; // blank (which is <unk>), BOS and EOS are the first tokens
const BLANK = 0;
const WORD_START = "\u2581"; // SentencePiece marks the beginning of a word with it

/** Return the tokens of a CTC path: repetitions merged, blanks removed. */
export function collapse(path) {
  const tokens = [];
  let before = -1;
  for (const token of path) {
    if (token !== before && token !== BLANK) tokens.push(token);
    before = token;
  }
  return tokens;
}

/** Convert tokens to text by their SentencePiece pieces; blank, BOS and EOS are skipped. */
export function toText(tokens, pieces) {
  const joined = tokens.filter((token) => token >= SPECIAL_TOKENS).map((token) => pieces[token]).join("");
  return joined.replaceAll(WORD_START, " ").split(/\s+/u).filter(Boolean).join(" ");
}

/** Compute 1 - edit distance / longer length of two token sequences; 0 if both are empty. */
export function tokenAgreement(a, b) {
  const longer = Math.max(a.length, b.length);
  return longer ? 1 - editDistance(a, b) / longer : 0;
}

/** Count the insertions, deletions and substitutions between two sequences. */
export function editDistance(a, b) {
  let row = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = row[j - 1] + (a[i - 1] !== b[j - 1]);
      next.push(Math.min(replaced, row[j] + 1, next[j - 1] + 1));
    }
    row = next;
  }
  return row[b.length];
}

/**
 * Compute the scores `agreement` and `token_rate` of an exit.
 *
 * output, previous: {path, probs}, the best token of each frame and its probability; previous is null at the first
 * exit whose head is run. A frame that is NaN makes both scores NaN.
 */
export function pathScores(output, previous, names) {
  const isNaN = [output, previous].some((one) => one !== null && one.probs.some(Number.isNaN));
  const tokens = collapse(output.path);
  const scores = {};
  if (names.includes("token_rate")) scores.token_rate = tokens.length / Math.max(1, output.path.length);
  if (names.includes("agreement")) {
    scores.agreement = previous === null ? 0 : tokenAgreement(tokens, collapse(previous.path));
  }
  if (isNaN) for (const name of Object.keys(scores)) scores[name] = NaN;
  return scores;
}
