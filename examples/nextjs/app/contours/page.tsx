import type { Metadata } from "next";

import { ContourForm } from "@/components/contour-form";

export const metadata: Metadata = { title: "Contours" };

export default function ContoursPage() {
  return (
    <>
      <h1>The regions of a face</h1>
      <p>Eyes, brows, lips, nose, cheeks and more as one SVG, turned upright.</p>
      <ContourForm />
    </>
  );
}
