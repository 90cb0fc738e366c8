import type { Metadata } from "next";

import { CompareForm } from "@/components/compare-form";

export const metadata: Metadata = { title: "Compare faces" };

export default function FacesPage() {
  return (
    <>
      <h1>Are these the same person?</h1>
      <p>The most prominent face of each photo is compared. Neither photo is kept.</p>
      <CompareForm />
    </>
  );
}
