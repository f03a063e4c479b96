// Lets node load the page's scripts as they are: they are modules, and jQuery is left out.
import { register } from "node:module";

const HOOKS = `
const JQUERY = "data:text/javascript,export default () => globalThis.link;";
export async function resolve(specifier, context, next) {
  return specifier === "./jquery.js" ? { url: JQUERY, format: "module", shortCircuit: true } : next(specifier, context);
}
export async function load(url, context, next) {
  return next(url, url.includes("/static/livejobs/") ? { ...context, format: "module" } : context);
}`;

register(`data:text/javascript,${encodeURIComponent(HOOKS)}`);
