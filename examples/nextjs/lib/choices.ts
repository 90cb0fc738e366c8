// What a visitor can choose, in words. A value that the service takes and this file lacks is a type error.

import type { PersonalizeForm, TryOnForm } from "./personalizer.ts";

export const MODES: Record<NonNullable<PersonalizeForm["mode"]>, string> = {
  face: "The face, under the drawn hair",
  head: "The whole head, with the child's own hair",
};

export const STYLES: Record<NonNullable<PersonalizeForm["style"]>, string> = {
  storybook: "Storybook",
  watercolor: "Watercolour",
  pencil: "Pencil",
  comic: "Comic",
  none: "As in the photo",
};

export const GARMENTS: Record<NonNullable<TryOnForm["garment_type"]>, string> = {
  auto: "Whatever the picture shows",
  tshirt: "T-shirt",
  shirt: "Shirt",
  longsleeve: "Long-sleeved top",
  hoodie: "Hoodie",
  jacket: "Jacket",
  dress: "Dress",
  pants: "Trousers",
  shorts: "Shorts",
  skirt: "Skirt",
};

export const TRY_ON_MODES: Record<NonNullable<TryOnForm["mode"]>, string> = {
  draft: "A draft",
  final: "A photograph, by a third party",
};
