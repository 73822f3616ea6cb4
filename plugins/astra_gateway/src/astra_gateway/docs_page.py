"""The page at `/docs`: the OpenAPI document, readable. It loads nothing from other servers, so it works offline and
no stranger's script runs where API keys are used."""

DOCS_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Astra API</title>
<style>
:root { color-scheme: light dark; --line: #8884; --soft: #8882; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h2 { border-bottom: 1px solid var(--line); padding-bottom: .3rem; margin-top: 3rem; }
code, pre { font: 14px/1.45 ui-monospace, monospace; }
pre { background: var(--soft); padding: .7rem 1rem; overflow-x: auto; border-radius: 6px; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); }
summary { cursor: pointer; padding: .4rem 0; }
.method { font-weight: 700; margin-right: .5rem; }
</style>
</head>
<body>
<main id="api"><p>Loading <a href="openapi.json">openapi.json</a> ...</p></main>
<script>
const make = (tag, text, ...children) => {
  const node = document.createElement(tag);
  if (text) node.textContent = text;
  node.append(...children);
  return node;
};
const typeOf = schema => {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.enum) return schema.enum.join(" | ");
  if (schema.anyOf) return [...new Set(schema.anyOf.map(typeOf))].join(" or ");
  if (schema.type === "array") return "array of " + typeOf(schema.items || {});
  return [].concat(schema.type || "any").join(" or ");
};
const table = (heads, rows) => make("table", "",
  make("thead", "", make("tr", "", ...heads.map(head => make("th", head)))),
  make("tbody", "", ...rows.map(row => make("tr", "", ...row.map(cell => make("td", cell))))));
const details = (title, node) => make("details", "", make("summary", title), node);
const show = api => {
  const page = document.getElementById("api");
  page.replaceChildren(make("h1", `${api.info.title} API ${api.info.version}`));
  for (const paragraph of (api.info.description || "").split("\\n\\n")) page.append(make("p", paragraph));
  for (const [path, operations] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(operations)) {
      const id = `${method}${path}`;
      const title = make("h2", "", make("span", method.toUpperCase()), make("code", ` ${path}`));
      title.id = id;
      title.firstChild.className = "method";
      page.append(title, make("p", operation.summary));
      for (const paragraph of (operation.description || "").split("\\n\\n")) page.append(make("p", paragraph));
      const parameters = operation.parameters || [];
      if (parameters.length) page.append(table(["parameter", "in", "type", "required", ""], parameters.map(
        one => [one.name, one.in, typeOf(one.schema), one.required ? "yes" : "", one.description || ""])));
      const body = operation.requestBody && operation.requestBody.content["application/json"].schema;
      if (body) page.append(make("p", `Body: ${typeOf(body)}`));
      const needed = parameters.filter(one => one.in === "query" && one.required);
      const query = needed.map(one => `${one.name}=...`).join("&");
      const verb = method === "get" ? "" : ` -X ${method.toUpperCase()}`;
      const curl = `curl${verb} '${location.origin}${path}${query ? "?" + query : ""}' \\\\\\n  ` +
        `--header 'x-astra-api-key: Bearer ID.SECRET'` + (body ? " \\\\\\n  --data @body.json" : "");
      page.append(make("pre", curl));
      page.append(details("Answers", table(["status", "", "schema"], Object.entries(operation.responses).map(
        ([status, answer]) => [status, answer.description, typeOf(Object.values(answer.content || {})[0]?.schema)]))));
    }
  }
  page.append(make("h1", "Schemas"));
  for (const [name, schema] of Object.entries((api.components || {}).schemas || {})) {
    page.append(make("h2", name));
    if (schema.description) page.append(make("p", schema.description));
    if (schema.properties) page.append(table(["field", "type", "required", ""], Object.entries(schema.properties).map(
      ([field, one]) => [field, typeOf(one), (schema.required || []).includes(field) ? "yes" : "",
        one.description || ""])));
    else page.append(make("p", typeOf(schema)));
  }
};
fetch("openapi.json").then(answer => answer.json()).then(show);
</script>
</body>
</html>
"""
