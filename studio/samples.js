// What comes with the service: pages drawn by its own code, and a public-domain photo.

const FOLDER = "/studio/examples";

async function file(url, name) {
  const response = await fetch(url);
  return new File([await response.blob()], name, { type: response.headers.get("Content-Type") });
}

/** Eileen Collins, photographed by NASA. */
export function samplePhoto() {
  return file(`${FOLDER}/astronaut.png`, "astronaut.png");
}

/** A figure and a shirt, drawn by the service's own code. */
export function samplePerson() {
  return file(`${FOLDER}/try-on/person.png`, "person.png");
}

export function sampleGarment() {
  return file(`${FOLDER}/try-on/shirt.png`, "shirt.png");
}

/** The pages: file name, title, address and face slots. */
export async function samplePages() {
  const slots = await (await fetch(`${FOLDER}/pages/slots.json`)).json();
  return Object.entries(slots).map(([name, faces]) => ({
    name,
    title: titleOf(name),
    url: `${FOLDER}/pages/${name}`,
    slots: faces.map(({ bbox }) => ({ bbox })),
    file: () => file(`${FOLDER}/pages/${name}`, name),
  }));
}

/** "kite_hill.png" as "Kite hill". */
export function titleOf(name) {
  const words = name.replace(/\.\w+$/, "").replaceAll(/[_-]+/g, " ").trim();
  return words.charAt(0).toUpperCase() + words.slice(1);
}
