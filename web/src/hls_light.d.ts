/** The light build has the same types; hls.js ships none under that name. */
declare module "hls.js/light" {
  export * from "hls.js";
  export { default } from "hls.js";
}
