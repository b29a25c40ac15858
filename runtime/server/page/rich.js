// Formulas by KaTeX and coloured code by Prism. Each library is loaded when an answer first needs it. A text
// that a library cannot read stays as it is.

const MAX_FORMULA = 2000; // characters
const MAX_CODE = 20_000;
const LANGUAGES = {
  "c++": "cpp", "c#": "csharp", cs: "csharp", golang: "go", js: "javascript", py: "python", rb: "ruby",
  rs: "rust", sh: "bash", shell: "bash", ts: "typescript", yml: "yaml", dockerfile: "docker",
}; // prettier-ignore
// Prism's types of tokens -> the classes of rich.css.
const CLASSES = new Map(
  Object.entries({
    comment: "comment prolog doctype cdata",
    keyword: "keyword atrule selector important tag",
    string: "string char attr-value regex url template-string triple-quoted-string inserted",
    number: "number boolean constant symbol deleted",
    name: "function class-name builtin attr-name property variable decorator",
  }).flatMap(([name, types]) => types.split(" ").map((type) => [type, `code-${name}`])),
);

function once(load) {
  let loading = null;
  return () => (loading ??= load());
}

const loadKatex = once(async () => {
  await import("./vendor/katex/katex.min.js");
  return self.katex;
});
const loadPrism = once(async () => (await import("./vendor/prism/prism.js")).default);

/** Replaces the content of `element`, which is the source, by the formula as MathML. */
export async function typeset(element, source, display) {
  if (source.length > MAX_FORMULA) return;
  try {
    const katex = await loadKatex();
    const frame = document.createElement("span");
    katex.render(source, frame, {
      displayMode: display,
      output: "mathml", // needs neither fonts nor a style sheet
      throwOnError: true,
      strict: "ignore",
      trust: false,
      maxExpand: 200,
      maxSize: 20,
    });
    element.replaceChildren(...frame.childNodes);
  } catch (error) {
    if (error.name !== "ParseError") console.info(error);
  }
}

/** Colours the code in `element`. An unknown `language` changes nothing. */
export async function colour(element, language) {
  const source = element.textContent;
  if (!language || source.length > MAX_CODE) return;
  try {
    const prism = await loadPrism();
    const name = LANGUAGES[language.toLowerCase()] ?? language.toLowerCase();
    const grammar = Object.hasOwn(prism.languages, name) ? prism.languages[name] : null;
    if (typeof grammar !== "object" || grammar === null) return;
    element.replaceChildren(...nodes(prism.tokenize(source, grammar)));
  } catch (error) {
    console.info(error);
  }
}

function nodes(tokens) {
  if (typeof tokens === "string") return [tokens];
  return (Array.isArray(tokens) ? tokens : [tokens]).flatMap((token) => {
    if (typeof token === "string") return [token];
    const inside = nodes(token.content);
    const aliases = [token.type, ...[token.alias ?? []].flat()];
    const found = aliases.find((alias) => CLASSES.has(alias));
    if (!found) return inside;
    const span = document.createElement("span");
    span.className = CLASSES.get(found);
    span.append(...inside);
    return [span];
  });
}
